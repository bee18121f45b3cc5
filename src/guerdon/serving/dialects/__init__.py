"""The protocols of other servers, one small file each, all over the same queue."""
