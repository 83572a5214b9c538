"""Reports: matrices and numbers as figures and files."""
