"""How far one driver goes, by simulation."""
