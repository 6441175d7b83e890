"""The jobs of the command: a folder each, with its driver, its worker stages and the file names both agree on."""
