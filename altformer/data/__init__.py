"""Traffic readings: where they come from, what is checked, and how windows are cut from them."""
