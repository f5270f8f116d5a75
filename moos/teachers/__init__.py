"""Teachers: what says which words of a text a compressor should learn to keep."""
