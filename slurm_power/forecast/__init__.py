"""What a series will be over the next day, with how sure that is. Pure: no clock, no files."""
