"""Tools that change a mask: brush, clean-up, clicks; and the scale."""
