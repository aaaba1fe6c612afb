"""Routes, by subject; each module makes one router."""
