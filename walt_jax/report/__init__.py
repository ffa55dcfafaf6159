"""The HTML report of a folder of runs."""
