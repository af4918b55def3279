-- Only releases that know the new name are left.
DROP TRIGGER users_keep_preference ON users;
DROP FUNCTION users_keep_preference();
ALTER TABLE users DROP COLUMN preference;
