"""One use case a module. Each decides, commits, and only then changes memory and answers."""
