"""Reading and writing video and images; the HTML report."""
