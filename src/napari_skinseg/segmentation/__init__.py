"""From a photo, and clicks where there are any, to a probability, a mask and a confidence."""
