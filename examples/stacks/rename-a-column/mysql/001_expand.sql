-- Gives users.preference its new name. Until contract both names are kept the same, whichever release writes.
ALTER TABLE users ADD COLUMN preferred_theme varchar(50);

DELIMITER //
CREATE TRIGGER users_keep_preference_new BEFORE INSERT ON users FOR EACH ROW
BEGIN
  SET NEW.preferred_theme = COALESCE(NEW.preferred_theme, NEW.preference);
  SET NEW.preference = NEW.preferred_theme;
END//

CREATE TRIGGER users_keep_preference BEFORE UPDATE ON users FOR EACH ROW
BEGIN
  IF NOT (NEW.preferred_theme <=> OLD.preferred_theme) THEN
    SET NEW.preference = NEW.preferred_theme;
  ELSEIF NOT (NEW.preference <=> OLD.preference) THEN
    SET NEW.preferred_theme = NEW.preference;
  END IF;
END//
DELIMITER ;
