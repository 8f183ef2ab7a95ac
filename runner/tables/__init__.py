"""Tables: rows of numbers, categories and dates, with cells that are missing."""
