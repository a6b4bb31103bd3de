"""Arrays: read and convert images; read, write, clean and compare masks."""
