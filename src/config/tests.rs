//! What operators write, and what they are told.

use super::*;

const FILE: &str = "/etc/bitting.toml";

fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let overrides = Overrides { config: file.map(|_| FILE.into()), data_dir: None };
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::from_parts(&overrides, &environment, |_| match file {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::ErrorKind::NotFound.into()),
    })
}

fn error(file: Option<&str>, environment: &[(&str, &str)]) -> String {
    load(file, environment).unwrap_err().to_string()
}

#[test]
fn nothing_written_is_the_contract_s_defaults() {
    let settings = load(
        None,
        &[("PATH", "/bin"), ("BITTING_URL", "x"), ("BITTING_TOKEN", "y"), ("BITTING_TEST_PG", "z")],
    );
    let settings = settings.unwrap();
    assert_eq!(settings.data_dir, Path::new("bitting-data"));
    assert_eq!(settings.database.to_string(), "sqlite://bitting-data/bitting.db");
    assert_eq!(settings.kek, KekSettings::File { path: "bitting-data/kek".into() });
    let local = |port| Plane { listen: SocketAddr::from(([127, 0, 0, 1], port)), tls: None };
    assert_eq!((settings.proxy, settings.admin), (local(8400), local(8401)));
    assert_eq!(settings.sandbox_listen, SocketAddr::from(([127, 0, 0, 1], 8402)));
    assert_eq!(settings.metrics_listen, None);
    assert!(settings.trusted_proxies.is_empty() && settings.private_upstreams.is_empty());
    assert!(!settings.proxy_protocol);
    assert_eq!(settings.durability, Durability::BeforeAnswer);
    assert_eq!((settings.log.as_str(), settings.log_format), ("info", None));
    assert_eq!(settings.bounds, Bounds::default());
}

#[test]
fn every_setting_is_read_from_the_file_and_the_environment_wins() {
    let file = r#"
        data_dir = "/var/lib/bitting"
        database_url = "postgres://u:p@db/bitting"
        proxy_listen = "0.0.0.0:443"
        proxy_tls_cert_file = "/c.pem"
        proxy_tls_key_file = "/k.pem"
        admin_listen = "[::1]:0"
        metrics_listen = "127.0.0.1:9100"
        trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
        proxy_protocol = true
        private_upstreams = []
        provider_order = ["openai", "house"]
        durability = "before_forward"
        log = "warn"
        log_format = "json"
        kek_file = "/k"

        [limits]
        connect_seconds = 9
    "#;
    let settings = load(Some(file), &[]).unwrap();
    assert_eq!(settings.data_dir, Path::new("/var/lib/bitting"));
    assert_eq!(settings.kek, KekSettings::File { path: "/k".into() });
    assert_eq!(settings.proxy.tls.unwrap().key_file, Path::new("/k.pem"));
    assert_eq!(settings.proxy.listen.to_string(), "0.0.0.0:443");
    assert_eq!((settings.trusted_proxies.iter().count(), settings.proxy_protocol), (2, true));
    assert_eq!(
        settings.provider_order.iter().map(crate::provider::Slug::as_str).collect::<Vec<_>>(),
        ["openai", "house"]
    );
    assert_eq!(settings.durability, Durability::BeforeForward);
    assert_eq!(settings.log_format, Some(LogFormat::Json));
    assert_eq!(settings.bounds, Bounds { connect_seconds: 9, ..Bounds::default() });

    let environment = [
        ("BITTING_DATABASE_URL", "sqlite:///tmp/x.db"),
        ("BITTING_TRUSTED_PROXIES", "192.0.2.0/24, 198.51.100.1"),
        ("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8"),
        ("BITTING_ADMIN_LISTEN", "0.0.0.0:1"),
        ("BITTING_PLAINTEXT", "true"),
        ("BITTING_LOG_FORMAT", "text"),
        ("BITTING_PROVIDER_ORDER", "azure, openai"),
    ];
    let settings = load(Some(file), &environment).unwrap();
    assert_eq!(settings.database.to_string(), "sqlite:///tmp/x.db");
    assert!(settings.trusted_proxies.contains("198.51.100.1".parse().unwrap()));
    assert!(!settings.trusted_proxies.contains("10.0.0.1".parse().unwrap()), "replaced, not joined");
    assert!(settings.private_upstreams.contains("127.0.0.1".parse().unwrap()));
    assert_eq!(settings.admin.listen.to_string(), "0.0.0.0:1");
    assert_eq!(settings.log_format, Some(LogFormat::Text));
    assert_eq!(settings.provider_order[0].as_str(), "azure");
}

#[test]
fn an_error_says_where_what_and_what_to_write() {
    type Row<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let table: [Row<'_>; 24] = [
        (
            Some("proxy_listn = \"x\""),
            &[],
            &["`proxy_listn` in /etc/bitting.toml", "did you mean proxy_listen?"],
        ),
        (Some("[limit]\nx = 1"), &[], &["`limit`", "did you mean limits?"]),
        (
            Some("[limits]\nconect_seconds = 1"),
            &[],
            &["`limits.conect_seconds`", "did you mean connect_seconds?"],
        ),
        (
            Some("[limits]\nconnect_seconds = 0"),
            &[],
            &["`limits.connect_seconds`", "0 is out of range", "1 to 300"],
        ),
        (Some("[limits]\nconnect_seconds = \"5\""), &[], &["not a whole number"]),
        (Some("limits = 5"), &[], &["not a table"]),
        (Some("log = 'a'\nlog = 'b'"), &[], &["/etc/bitting.toml is not TOML, line 2"]),
        (Some("plaintext = \"yes\""), &[], &["true or false"]),
        (Some("trusted_proxies = \"10.0.0.1/8\""), &[], &["entry 1", "host bits", "10.0.0.0/8"]),
        (Some("trusted_proxies = [1]"), &[], &["not a list of networks"]),
        (Some("provider_order = \"Open AI\""), &[], &["not a list of providers' slugs", "openai,azure"]),
        (Some("provider_order = [1]"), &[], &["not a list of providers' slugs"]),
        (
            Some("proxy_listen = \"localhost:8400\""),
            &[],
            &["\"localhost:8400\" is not an address", "127.0.0.1:8400"],
        ),
        (
            None,
            &[("BITTING_TRUSTED_PROXY", "x")],
            &["BITTING_TRUSTED_PROXY in the environment", "BITTING_TRUSTED_PROXIES?"],
        ),
        (None, &[("BITTING_log", "x")], &["BITTING_log", "BITTING_LOG?"]),
        (None, &[("BITTING_LOG", "a=b=c")], &["BITTING_LOG", "not a filter", "info"]),
        (None, &[("BITTING_LOG", " ")], &["BITTING_LOG", "it is empty"]),
        (None, &[("BITTING_DURABILITY", "never")], &["\"before_answer\" or \"before_forward\""]),
        (None, &[("BITTING_PROXY_TLS_CERT_FILE", "/c")], &["go together", "BITTING_PROXY_TLS_KEY_FILE too"]),
        (None, &[("BITTING_ADMIN_TLS_KEY_FILE", "/c")], &["go together", "BITTING_ADMIN_TLS_CERT_FILE too"]),
        (None, &[("BITTING_PROXY_LISTEN", "0.0.0.0:8400")], &["0.0.0.0:8400", "no TLS", "plaintext = true"]),
        (None, &[("BITTING_METRICS_LISTEN", "[::]:9100")], &["[::]:9100", "a loopback address"]),
        (None, &[("BITTING_PROXY_PROTOCOL", "true")], &["no trusted proxy", "BITTING_TRUSTED_PROXIES too"]),
        (Some("proxy_protocol = 2"), &[], &["`proxy_protocol`", "true or false"]),
    ];
    for (file, environment, parts) in table {
        let message = error(file, environment);
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_listener_that_others_reach_needs_tls_or_a_word() {
    let open = ("BITTING_PROXY_LISTEN", "0.0.0.0:8400");
    assert!(load(None, &[open]).is_err());
    assert!(load(None, &[open, ("BITTING_PLAINTEXT", "false")]).is_err());
    assert!(load(None, &[open, ("BITTING_PLAINTEXT", "true")]).is_ok());
    let tls = [("BITTING_PROXY_TLS_CERT_FILE", "/c"), ("BITTING_PROXY_TLS_KEY_FILE", "/k")];
    assert!(load(None, &[open, tls[0], tls[1]]).is_ok());
    let admin = ("BITTING_ADMIN_LISTEN", "0.0.0.0:8401");
    assert!(load(None, &[admin, tls[0], tls[1]]).is_err(), "the other plane's certificate does not count");
    assert!(load(None, &[("BITTING_PROXY_LISTEN", "[::ffff:127.0.0.1]:1")]).is_ok());
}

#[test]
fn a_password_is_never_shown() {
    for (url, place) in [
        ("postgres://u:canary@db:5432/b?sslmode=require", "postgres://db:5432/b"),
        ("postgresql://u:canary@canary@db:5432/b", "postgres://db:5432/b"),
        ("postgres://db:5432/b?password=canary", "postgres://db:5432/b"),
        ("postgres://u:canary/x@db/b", "postgres://..."),
        ("postgres://u:x?canary@db/b", "postgres://..."),
        ("postgres://u:p@db/b?password=x@canary", "postgres://..."),
    ] {
        let settings = load(None, &[("BITTING_DATABASE_URL", url)]).unwrap();
        let shown = format!("{settings:?} {}", settings.database);
        assert!(!shown.contains("canary") && shown.contains(place), "{shown}");
        let Database::Postgres { url: kept } = settings.database else { panic!("{url}") };
        assert_eq!(kept.expose(), url);
    }
    for bad in ["mysql://u:canary@db/b", "canary", "sqlite://x?key=canary", "postgres://", "sqlite://"] {
        let message = error(None, &[("BITTING_DATABASE_URL", bad)]);
        assert!(message.contains("write sqlite://PATH") && !message.contains("canary"), "{message}");
    }
    let message = error(Some("database_url = \"postgres://u:canary@db/b"), &[]);
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn the_file_in_the_data_directory_is_read_where_there_is_one() {
    let read = |file: &Path| match file.to_str() {
        Some("/data/bitting.toml") => Ok("log = \"debug\"".to_owned()),
        Some("/wrong/bitting.toml") => Ok("data_dir = \"/elsewhere\"".to_owned()),
        Some("/secret/bitting.toml") => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let load = |data: Option<&str>, environment: &[(&str, &str)], config: Option<&str>| {
        let overrides = Overrides { config: config.map(PathBuf::from), data_dir: data.map(PathBuf::from) };
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::from_parts(&overrides, &environment, read)
    };
    assert_eq!(load(Some("/data"), &[], None).unwrap().log, "debug");
    assert_eq!(load(None, &[("BITTING_DATA_DIR", "/data")], None).unwrap().log, "debug");
    let settings = load(Some("/other"), &[("BITTING_DATA_DIR", "/data")], None).unwrap();
    assert_eq!(settings.log, "info");
    assert_eq!(settings.kek, KekSettings::File { path: "/other/kek".into() });
    assert!(load(Some("/wrong"), &[], None).unwrap_err().to_string().contains("cannot name another"));
    assert!(
        matches!(load(Some("/secret"), &[], None), Err(ConfigError::Read { .. })),
        "not silently skipped"
    );
    assert!(matches!(load(None, &[], Some("/missing.toml")), Err(ConfigError::Read { .. })));
}

const TRANSIT: [(&str, &str); 3] = [
    ("BITTING_KEK_TRANSIT_URL", "https://10.1.2.3:8200"),
    ("BITTING_KEK_TRANSIT_KEY", "bitting"),
    ("BITTING_KEK_TRANSIT_TOKEN_FILE", "/t"),
];

#[test]
fn each_source_of_the_kek_is_read() {
    let kek = |environment: &[(&str, &str)]| load(None, environment).unwrap().kek;
    let passphrase = kek(&[("BITTING_KEK_PASSPHRASE_FILE", "/p")]);
    assert_eq!(passphrase, KekSettings::Passphrase { path: "/p".into() });
    let credential = kek(&[("BITTING_KEK_CREDENTIAL", "kek"), ("CREDENTIALS_DIRECTORY", "/run/c")]);
    let path = PathBuf::from("/run/c/kek");
    assert_eq!(credential, KekSettings::Credential { name: "kek".to_owned(), path });
    let KekSettings::Transit(transit) = kek(&TRANSIT) else { panic!("it is transit") };
    assert_eq!((transit.key.as_str(), transit.mount.as_str()), ("bitting", "transit"));
    assert_eq!(transit.url.to_string(), "https://10.1.2.3:8200");
    assert_eq!((transit.namespace, transit.ca_file), (None, None));
    let more = [
        ("BITTING_KEK_TRANSIT_MOUNT", "teams/transit/"),
        ("BITTING_KEK_TRANSIT_NAMESPACE", "a/b"),
        ("BITTING_KEK_TRANSIT_CA_FILE", "/ca"),
    ];
    let all: Vec<_> = TRANSIT.into_iter().chain(more).collect();
    let KekSettings::Transit(transit) = kek(&all) else { panic!("it is transit") };
    assert_eq!((transit.mount.as_str(), transit.namespace.as_deref()), ("teams/transit", Some("a/b")));
    assert_eq!(transit.ca_file.as_deref(), Some(Path::new("/ca")));
}

#[test]
fn two_sources_of_the_kek_are_an_error_that_names_both() {
    let file = ("BITTING_KEK_FILE", "/k");
    let passphrase = ("BITTING_KEK_PASSPHRASE_FILE", "/p");
    let credential = ("BITTING_KEK_CREDENTIAL", "c");
    let sources = [file, passphrase, credential, TRANSIT[0]];
    for one in sources {
        for other in sources.into_iter().filter(|other| *other != one) {
            let message = error(None, &[one, other]);
            assert!(message.contains(one.0) && message.contains(other.0), "{message}");
        }
    }
    let message = error(Some("kek_file = \"/k\""), &[passphrase]);
    assert!(message.contains("`kek_file` in /etc") && message.contains(passphrase.0), "{message}");
}

#[test]
fn half_a_source_of_the_kek_is_an_error_that_says_what_is_missing() {
    for (environment, part) in [
        (vec![("BITTING_KEK_CREDENTIAL", "kek")], "LoadCredential=kek:"),
        (vec![("BITTING_KEK_CREDENTIAL", "kek"), ("CREDENTIALS_DIRECTORY", "here")], "not set"),
        (vec![("BITTING_KEK_CREDENTIAL", "../kek"), ("CREDENTIALS_DIRECTORY", "/c")], "is no name"),
        (vec![("BITTING_KEK_CREDENTIAL", "a/b"), ("CREDENTIALS_DIRECTORY", "/c")], "is no name"),
        (vec![TRANSIT[1]], "BITTING_KEK_TRANSIT_URL too"),
        (vec![("BITTING_KEK_FILE", "/k"), TRANSIT[2]], "BITTING_KEK_TRANSIT_URL too"),
        (vec![TRANSIT[0], TRANSIT[2]], "BITTING_KEK_TRANSIT_KEY too"),
        (vec![TRANSIT[0], TRANSIT[1]], "BITTING_KEK_TRANSIT_TOKEN_FILE too"),
    ] {
        let message = error(None, &environment);
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    for (variable, value) in [
        ("BITTING_KEK_TRANSIT_KEY", "a/b"),
        ("BITTING_KEK_TRANSIT_KEY", "a?b"),
        ("BITTING_KEK_TRANSIT_KEY", ".."),
        ("BITTING_KEK_TRANSIT_MOUNT", "../sys"),
        ("BITTING_KEK_TRANSIT_MOUNT", "a//b"),
        ("BITTING_KEK_TRANSIT_MOUNT", "/a"),
        ("BITTING_KEK_TRANSIT_NAMESPACE", "a b"),
    ] {
        let all: Vec<_> =
            TRANSIT.into_iter().filter(|given| given.0 != variable).chain([(variable, value)]).collect();
        let message = error(None, &all);
        assert!(message.contains(variable) && message.contains("is no name"), "{value}: {message}");
    }
}

#[test]
fn a_key_service_is_anywhere_but_at_a_metadata_address_and_in_clear_on_this_machine_alone() {
    let with = |url| {
        let all = [("BITTING_KEK_TRANSIT_URL", url), TRANSIT[1], TRANSIT[2]];
        load(None, &all)
    };
    for fine in [
        "https://vault.example",
        "https://vault:8200",
        "https://10.0.0.1/",
        "https://[fd12::1]:8200",
        "https://localhost",
        "http://127.0.0.1:8200",
        "http://[::1]:8200",
        "http://localhost:8200",
    ] {
        assert!(with(fine).is_ok(), "{fine}: {:?}", with(fine).err());
    }
    for refused in [
        "http://vault.example",
        "http://10.0.0.1:8200",
        "http://[fd12::1]",
        "http://a.localhost",
        "https://169.254.169.254",
        "http://169.254.169.254",
        "https://[fd00:ec2::254]",
        "https://[::a9fe:a9fe]",
        "https://0.0.0.0",
        "http://0x7f.1",
        "http://2130706433",
        "https://user@vault.example",
        "https://vault.example#x",
        "https://vault.example?x=1",
        "https://vault.example.",
        "https://vault.example/../v1",
        "vault.example",
        "unix:///run/vault",
    ] {
        let message = with(refused).unwrap_err().to_string();
        assert!(message.contains("BITTING_KEK_TRANSIT_URL"), "{refused}: {message}");
    }
}

#[test]
fn what_is_said_to_set_for_a_source_names_that_source() {
    let given = [
        ("BITTING_KEK_TRANSIT_MOUNT", "teams/transit"),
        ("BITTING_KEK_TRANSIT_NAMESPACE", "a/b"),
        ("BITTING_KEK_TRANSIT_CA_FILE", "/ca"),
    ];
    for environment in [
        vec![("BITTING_KEK_FILE", "/k")],
        vec![("BITTING_KEK_PASSPHRASE_FILE", "/p")],
        vec![("BITTING_KEK_CREDENTIAL", "kek")],
        TRANSIT.to_vec(),
        TRANSIT.iter().chain(&given).copied().collect(),
    ] {
        let handed = ("CREDENTIALS_DIRECTORY", "/run/c");
        let kek = load(None, &[environment.clone(), vec![handed]].concat()).unwrap().kek;
        let variables = kek.variables();
        let mut named: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        named.push(handed);
        assert_eq!(load(None, &named).unwrap().kek, kek, "{environment:?}");
    }
}

#[test]
fn flags_name_a_source_by_the_rules_of_the_settings_and_an_error_names_the_flag() {
    let transit = |url: &str, key: &str| {
        let given = [("kek_transit_url", "--to-transit", url), ("kek_transit_key", "--transit-key", key)];
        let given = given.map(|(key, flag, text)| (key, flag, text.to_owned()));
        KekSettings::transit_by_flags(given, "/t".into(), None).map_err(|error| error.to_string())
    };
    assert_eq!(transit(TRANSIT[0].1, TRANSIT[1].1).unwrap(), load(None, &TRANSIT).unwrap().kek);
    for (refused, names) in [
        (transit("http://10.1.2.3:8200", "bitting"), "--to-transit: it is not encrypted"),
        (transit("https://169.254.169.254", "bitting"), "--to-transit: "),
        (transit("https://10.1.2.3:8200", "a/b"), "--transit-key: "),
    ] {
        let message = refused.unwrap_err();
        assert!(message.starts_with(names), "{message}");
    }
    let credential = |environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        KekSettings::credential_by_flag("--to-credential", "kek".to_owned(), &environment)
    };
    let path = PathBuf::from("/run/c/kek");
    let expected = KekSettings::Credential { name: "kek".to_owned(), path };
    assert_eq!(credential(&[("CREDENTIALS_DIRECTORY", "/run/c")]).unwrap(), expected);
    let message = credential(&[]).unwrap_err().to_string();
    assert!(message.starts_with("--to-credential: ") && message.contains("systemd-run"), "{message}");
}
