-- Gives users.preference its new name. Until contract both names are kept the same, whichever release writes.
ALTER TABLE users ADD COLUMN preferred_theme varchar(50);

CREATE FUNCTION users_keep_preference() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.preferred_theme := coalesce(NEW.preferred_theme, NEW.preference);
    NEW.preference := NEW.preferred_theme;
  ELSIF NEW.preferred_theme IS DISTINCT FROM OLD.preferred_theme THEN
    NEW.preference := NEW.preferred_theme;
  ELSIF NEW.preference IS DISTINCT FROM OLD.preference THEN
    NEW.preferred_theme := NEW.preference;
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER users_keep_preference BEFORE INSERT OR UPDATE ON users
  FOR EACH ROW EXECUTE FUNCTION users_keep_preference();
