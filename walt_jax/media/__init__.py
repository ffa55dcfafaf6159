"""Video and image files, folders of samples, contact sheets."""
