"""What every page shares: rendering, formats of numbers and times, headers, and files for the browser."""
