"""What every server of ours needs: a port, checks of requests, secrets, and JSON in UTF-8."""
