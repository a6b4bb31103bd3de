"""The Review tab: correct and accept the masks of a folder of photos; every change is saved."""
