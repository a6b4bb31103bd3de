"""Images and masks as arrays: reading, cleaning, measuring, comparing, generating. Never imports torch."""
