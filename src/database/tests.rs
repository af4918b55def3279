//! URLs: what is understood, what is refused, and that nothing secret is said.

use super::Address;
use crate::migration::spec::{Tls, TlsMode};
use crate::run::migration::ports::Database as _;

fn parse(url: &str) -> Result<Address, String> {
    Address::parse(url, &Tls::default())
}

#[test]
fn urls_are_those_of_other_drivers() {
    let words = |url: &str| parse(url).unwrap().summary();
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

fn mode(url: &str, mode: Option<TlsMode>, ca_bundle: Option<&str>, with_token: bool) -> String {
    let tls = Tls { mode, ca_bundle: ca_bundle.map(std::path::PathBuf::from) };
    let address = Address::parse(url, &tls).unwrap();
    let address = if with_token { address.with_token("t0ken") } else { address };
    assert!(!format!("{address:?}").contains("t0ken"));
    match address.options {
        super::address::Options::Postgres(options) => format!("{:?}", options.get_ssl_mode()),
        super::address::Options::Mysql(options) => format!("{:?}", options.get_ssl_mode()),
    }
}

#[test]
fn nobody_but_the_server_that_is_named_is_sent_a_password() {
    for (url, expected) in [
        ("postgres://app@db/x", "VerifyFull"),
        ("mysql://app@db/x", "VerifyIdentity"),
        ("postgres://app@127.0.0.1/x", "Prefer"),
        ("postgres://app@[::1]/x", "Prefer"),
        ("mysql://app@localhost/x", "Preferred"),
        ("postgres://app@%2Frun%2Fpostgresql/x", "Prefer"),
        ("postgres://app@localhost/x?host=db.example.com", "VerifyFull"),
        ("postgres://app@db/x?sslmode=prefer", "Require"),
        ("postgres://app@db/x?sslmode=allow", "Require"),
        ("mysql://app@db/x?ssl-mode=PREFERRED", "Required"),
        ("postgres://app@db/x?sslmode=disable", "Disable"),
        ("postgres://app@db/x?sslmode=require", "Require"),
        ("postgres://app@db/x?sslmode=require&sslrootcert=a.pem", "VerifyCa"),
        ("postgres://app@127.0.0.1/x?sslrootcert=a.pem", "VerifyFull"),
    ] {
        assert_eq!(mode(url, None, None, false), expected, "{url}");
    }
    assert_eq!(mode("postgres://app@db/x", Some(TlsMode::Prefer), None, false), "Require");
    assert_eq!(mode("postgres://app@db/x?sslmode=require", Some(TlsMode::Disable), None, false), "Disable");
}

#[test]
fn whoever_names_authorities_has_them_asked() {
    let file = Some("rds.pem");
    assert_eq!(mode("postgres://app@db/x", None, file, false), "VerifyFull");
    assert_eq!(mode("mysql://app@db/x", None, file, false), "VerifyIdentity");
    assert_eq!(mode("postgres://app@db/x?sslmode=verify-ca", None, file, false), "VerifyCa");
    assert_eq!(mode("postgres://app@db/x", Some(TlsMode::Require), file, false), "Require");
}

#[test]
fn a_token_goes_to_nobody_else() {
    for url in
        ["postgres://app@db/x?sslmode=disable", "postgres://app@127.0.0.1/x", "postgres://app@db/x?sslmode=require"]
    {
        assert_eq!(mode(url, None, None, true), "VerifyFull", "{url}");
    }
    assert_eq!(mode("mysql://app@db/x", Some(TlsMode::Prefer), None, true), "VerifyIdentity");
    assert_eq!(mode("postgres://app@db/x", Some(TlsMode::Require), None, true), "Require");
    assert_eq!(mode("mysql://app@db/x", Some(TlsMode::VerifyCa), None, true), "VerifyCa");
}
