"""Parts for other frameworks' training loops; each imports its framework when it is imported."""
