-- A batch: rows that nobody has written since expand. It is repeated until it changes none.
UPDATE users SET preferred_theme = preference
WHERE preferred_theme IS NULL AND preference IS NOT NULL
LIMIT 1000;
