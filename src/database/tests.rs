//! URLs: what is understood, what is refused, and that nothing secret is said.

use super::{Address, Tls, TlsMode};
use crate::run::database::Database as _;

fn parse(url: &str) -> Result<Address, String> {
    Address::parse(url, &Tls::default())
}

#[test]
fn urls_are_those_of_other_drivers() {
    let words = |url: &str| parse(url).unwrap().words();
    let url = "postgres://app:s%40cret@db.example.com:5433/shop?sslmode=require&channel_binding=require";
    assert_eq!(words(url), "PostgreSQL at db.example.com:5433, database shop, user app");
    assert_eq!(words("mariadb://app:x@db/shop?ssl-mode=REQUIRED"), "MySQL at db:3306, database shop, user app");
    assert_eq!(words("mysql://app:x@db/shop?sslmode=verify-full"), "MySQL at db:3306, database shop, user app");
}

#[test]
fn what_is_wrong_with_a_url_is_said_without_it() {
    let wrong = |url: &str| {
        let error = parse(url).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        error
    };
    assert!(wrong("oracle://app:s3cret@db/x").contains("must begin with postgres://"));
    assert!(wrong("postgres://app:s3cret@db:99999/x").contains("invalid port"));
    for stray in ["7?s3cret@db/x", "7/s3cret@db/x", "7#s3cret@db/x"] {
        assert!(wrong(&format!("postgres://app:{stray}")).contains("special characters"));
    }
    assert!(wrong("postgres://app:s3cret@db/x?sslmod=require").contains("\"sslmod\" is not known"));
    assert!(wrong("postgres://app:s3cret@db/x?sslmode=maybe").contains("maybe"));
    assert!(wrong("mysql://app:s3cret@db/x?ssl-mode=maybe").contains("maybe"));
    assert!(wrong("mysql://app:s3cret@db/x?connect_timeout=0").contains("1 to 300"));
}

#[test]
fn whoever_names_authorities_has_them_asked() {
    let file = Some(std::path::PathBuf::from("rds.pem"));
    let mode = |url: &str, mode| {
        let tls = Tls { mode, ca_bundle: file.clone() };
        match Address::parse(url, &tls).unwrap().with_token("t").options {
            super::address::Options::Postgres(options) => format!("{:?}", options.get_ssl_mode()),
            super::address::Options::Mysql(options) => format!("{:?}", options.get_ssl_mode()),
        }
    };
    assert_eq!(mode("postgres://app@db/x", None), "VerifyFull");
    assert_eq!(mode("mysql://app@db/x", None), "VerifyIdentity");
    assert_eq!(mode("postgres://app@db/x?sslmode=verify-ca", None), "VerifyCa");
    assert_eq!(mode("postgres://app@db/x", Some(TlsMode::Require)), "Require");
}

#[test]
fn a_token_is_never_sent_in_the_clear() {
    for url in ["postgres://app@db/x?sslmode=disable", "mysql://app@db/x"] {
        let tls = Tls { mode: Some(TlsMode::Prefer), ca_bundle: None };
        let address = Address::parse(url, &tls).unwrap().with_token("t0ken");
        match &address.options {
            super::address::Options::Postgres(options) => {
                assert!(matches!(options.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
            }
            super::address::Options::Mysql(options) => {
                assert!(matches!(options.get_ssl_mode(), sqlx::mysql::MySqlSslMode::Required));
            }
        }
        assert!(!format!("{address:?}").contains("t0ken"));
    }
}
