-- Only releases that know the new name are left.
DROP TRIGGER users_keep_preference;
DROP TRIGGER users_keep_preference_new;
ALTER TABLE users DROP COLUMN preference;
