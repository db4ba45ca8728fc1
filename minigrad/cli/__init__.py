"""The commands of ``minigrad``: thin, one file each."""
