"""What a matrix found, for readers: its content as plain data, and the files that lay it out."""
