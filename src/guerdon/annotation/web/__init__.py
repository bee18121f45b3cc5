"""Pages and HTTP endpoints of annotation."""
