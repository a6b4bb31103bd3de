"""Tools that correct a mask by brush, buttons and clicks, and the scale tool."""
