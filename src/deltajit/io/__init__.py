"""Networks in files, and from and for other libraries."""
