"""One file per command: parse a config, call one pipeline, print one summary line."""
