"""The Review tab: go through a folder of photos, correct and decide, and lose nothing."""
