"""Own data: archives, arrays and idx files become data sets, and a profile says what was found."""
