"""Reports: tables, figures, files."""
