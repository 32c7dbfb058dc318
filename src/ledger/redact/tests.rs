//! What goes, and what stays.

use super::Redactor;
use crate::model::Arg;

/// Writes out `<36>` as 36 letters and digits, `<x32>` as hexadecimal digits, `<U16>` as capitals
/// and digits: made-up tokens that no scanner of this repository takes for real ones.
fn spell(text: &str) -> String {
    let mut spelled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let Some((inside, behind)) = after.split_once('>') else { break };
        let (alphabet, digits) = if let Some(digits) = inside.strip_prefix('x') {
            ("0f1e2d3c4b5a6978", digits)
        } else if let Some(digits) = inside.strip_prefix('U') {
            ("7A2B3C4D5E6F", digits)
        } else {
            ("a1B2c3D4e5F6g7H8", inside)
        };
        let Ok(count) = digits.parse::<usize>() else { break };
        spelled += before;
        spelled.extend(alphabet.chars().cycle().take(count));
        rest = behind;
    }
    spelled + rest
}

fn clean(redactor: &Redactor, argv: &[&str]) -> (String, usize) {
    let mut words: Vec<Arg> =
        argv.iter().map(|word| Arg::try_from(spell(word).as_str()).unwrap()).collect();
    let count = redactor.argv(&mut words);
    (words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "), count)
}

/// Exactly one secret is found in the command line, which then reads like this.
#[track_caller]
fn goes(argv: &[&str], expected: &str) {
    let (text, count) = clean(&Redactor::default(), argv);
    assert_eq!(text, spell(expected));
    assert_eq!(count, 1, "{text}");
}

#[track_caller]
fn stays(argv: &[&str]) {
    let before: Vec<Arg> =
        argv.iter().map(|word| Arg::try_from(spell(word).as_str()).unwrap()).collect();
    let mut after = before.clone();
    assert_eq!(Redactor::default().argv(&mut after), 0, "{after:?}");
    assert_eq!(after, before);
}

#[test]
fn the_value_of_a_secret_option_goes() {
    goes(&["x", "--password", "hunter2x"], "x | --password | [redacted:flag]");
    goes(&["x", "--password=hunter2x"], "x | --password=[redacted:flag]");
    goes(&["x", "--passwd", "my long one"], "x | --passwd | [redacted:flag]");
    goes(&["x", "--token", "abc"], "x | --token | [redacted:flag]");
    goes(&["x", "--auth-token=abc"], "x | --auth-token=[redacted:flag]");
    goes(&["x", "--api-key", "abc"], "x | --api-key | [redacted:flag]");
    goes(&["x", "--apikey=abc"], "x | --apikey=[redacted:flag]");
    goes(&["x", "--client-secret", "abc"], "x | --client-secret | [redacted:flag]");
    goes(&["x", "--access-key", "abc"], "x | --access-key | [redacted:flag]");
    goes(&["gpg", "--passphrase", "a b c"], "gpg | --passphrase | [redacted:flag]");
    goes(&["keytool", "-storepass", "abc"], "keytool | -storepass | [redacted:flag]");
    goes(&["wget", "--http-password=abc"], "wget | --http-password=[redacted:flag]");
    goes(&["sudo", "x", "--db.password", "abc"], "sudo | x | --db.password | [redacted:flag]");
}

#[test]
fn a_short_option_that_carries_a_secret_is_known_by_its_program() {
    goes(&["mysql", "-pabc", "db"], "mysql | -p[redacted:flag] | db");
    goes(&["sudo", "/usr/bin/mysqldump", "-pabc"], "sudo | /usr/bin/mysqldump | -p[redacted:flag]");
    goes(&["sshpass", "-p", "abc", "ssh"], "sshpass | -p | [redacted:flag] | ssh");
    goes(
        &["docker", "login", "-u", "me", "-p", "abc"],
        "docker | login | -u | me | -p | [redacted:flag]",
    );
    goes(&["redis-cli", "-a", "abc"], "redis-cli | -a | [redacted:flag]");
    goes(&["ldapsearch", "-w", "abc"], "ldapsearch | -w | [redacted:flag]");
    goes(&["curl", "-u", "me:abc", "x"], "curl | -u | me:[redacted:flag] | x");
    goes(&["curl", "-ume:abc"], "curl | -ume:[redacted:flag]");
    goes(&["curl", "--user", "me:abc"], "curl | --user | me:[redacted:flag]");
    goes(&["curl", "-sSu", "me:abc", "x"], "curl | -sSu | me:[redacted:flag] | x");
    goes(&["curl", "-sume:abc", "x"], "curl | -sume:[redacted:flag] | x");
    goes(&["curl", "--user=me:abc"], "curl | --user=me:[redacted:flag]");
    goes(&["skopeo", "--creds=me:abc"], "skopeo | --creds=me:[redacted:flag]");
    goes(&["mysql", "-Bpabc"], "mysql | -Bp[redacted:flag]");
    goes(&["http", "-a", "me:abc"], "http | -a | me:[redacted:flag]");
    goes(&["smbclient", "-U", "me%abc"], "smbclient | -U | me%[redacted:flag]");
    goes(&["unzip", "-P", "abc", "a.zip"], "unzip | -P | [redacted:flag] | a.zip");
    goes(&["7z", "x", "-pabc"], "7z | x | -p[redacted:flag]");
    goes(&["openssl", "enc", "-pass", "pass:abc"], "openssl | enc | -pass | pass:[redacted:flag]");
}

#[test]
fn the_value_of_a_secret_name_goes() {
    goes(&["env", "DB_PASSWORD=a b;c", "x"], "env | DB_PASSWORD=[redacted:assignment] | x");
    goes(&["PGPASSWORD=abc"], "PGPASSWORD=[redacted:assignment]");
    goes(&["x", "GITHUB_TOKEN=abc"], "x | GITHUB_TOKEN=[redacted:assignment]");
    goes(&["x", "AWS_SECRET_ACCESS_KEY=/a+b"], "x | AWS_SECRET_ACCESS_KEY=[redacted:assignment]");
    goes(&["x", "MYSQL_PWD=abc"], "x | MYSQL_PWD=[redacted:assignment]");
    goes(&["x", "SMTP_PASS=abc"], "x | SMTP_PASS=[redacted:assignment]");
    goes(&["x", "SECRET_KEY_BASE=abc"], "x | SECRET_KEY_BASE=[redacted:assignment]");
    goes(&["java", "-Ddb.password=abc"], "java | -Ddb.password=[redacted:flag]");
    goes(
        &["kubectl", "create", "--from-literal=password=abc"],
        "kubectl | create | --from-literal=password=[redacted:assignment]",
    );
    goes(
        &["docker", "--build-arg", "NPM_TOKEN=abc"],
        "docker | --build-arg | NPM_TOKEN=[redacted:assignment]",
    );
    goes(
        &["npm", "config", "set", "//r.example/:_authToken=abc"],
        "npm | config | set | //r.example/:_authToken=[redacted:assignment]",
    );
    goes(
        &["az", "DefaultEndpointsProtocol=https;AccountKey=ab+c;Suffix=x"],
        "az | DefaultEndpointsProtocol=https;AccountKey=[redacted:assignment];Suffix=x",
    );
    goes(
        &["curl", "-d", r#"{"user":"me","password":"a b"}"#],
        r#"curl | -d | {"user":"me","password":"[redacted:field]"}"#,
    );
    goes(&["x", r#"{"apiKey": "abc"}"#], r#"x | {"apiKey": "[redacted:field]"}"#);
}

#[test]
fn addresses_lose_their_password_and_keep_their_host() {
    goes(
        &["git", "clone", "https://me:abc@h.example/r"],
        "git | clone | https://me:[redacted:url]@h.example/r",
    );
    goes(&["x", "postgres://u:p%40w@db:5432/n"], "x | postgres://u:[redacted:url]@db:5432/n");
    goes(&["x", "redis://:abc@h/0"], "x | redis://:[redacted:url]@h/0");
    goes(&["x", "https://<32>@h.example/r"], "x | https://[redacted:url]@h.example/r");
    goes(
        &["x", "https://h/?a=1&access_token=abc&b=2"],
        "x | https://h/?a=1&access_token=[redacted:query]&b=2",
    );
    goes(&["x", "https://h/?key=abc#top"], "x | https://h/?key=[redacted:query]");
    goes(
        &["x", "https://h/o?X-Amz-Signature=<x64>&d=1"],
        "x | https://h/o?X-Amz-Signature=[redacted:query]&d=1",
    );
    goes(
        &["x", "https://hooks.slack.com/services/T00/B00/<24>"],
        "x | https://hooks.slack.com/services/[redacted:webhook]",
    );
}

#[test]
fn headers_keep_their_scheme() {
    goes(
        &["curl", "-H", "Authorization: Bearer abc"],
        "curl | -H | Authorization: Bearer [redacted:header]",
    );
    goes(
        &["curl", "-H", "authorization: Basic YTpi"],
        "curl | -H | authorization: Basic [redacted:header]",
    );
    goes(
        &["curl", "-H", "Authorization: a=b, c=d"],
        "curl | -H | Authorization: [redacted:header]",
    );
    goes(&["curl", "-H", "Cookie: sid=abc; t=1"], "curl | -H | Cookie: [redacted:header]");
    goes(&["curl", "-H", "X-Api-Key:abc"], "curl | -H | X-Api-Key:[redacted:header]");
    goes(&["curl", "-H", "PRIVATE-TOKEN: abc"], "curl | -H | PRIVATE-TOKEN: [redacted:header]");
    goes(
        &["git", "-c", "http.extraHeader=Authorization: Basic abc", "fetch"],
        "git | -c | http.extraHeader=Authorization: Basic [redacted:header] | fetch",
    );
}

#[test]
fn a_script_loses_the_secret_and_keeps_the_rest() {
    goes(
        &["bash", "-p", "-c", "--", "a; mysql -pabc"],
        "bash | -p | -c | -- | a; mysql -p[redacted:flag]",
    );
    goes(
        &["bash", "-c", "TOKEN=abc ./deploy; rm -rf build"],
        "bash | -c | TOKEN=[redacted:assignment] ./deploy; rm -rf build",
    );
    goes(
        &["sh", "-lc", "curl -H 'Authorization: Bearer abc' https://h/ && ls"],
        "sh | -lc | curl -H 'Authorization: Bearer [redacted:header]' https://h/ && ls",
    );
    goes(
        &["bash", "-c", "mysql -pabc db < x.sql"],
        "bash | -c | mysql -p[redacted:flag] db < x.sql",
    );
    goes(
        &["bash", "-c", "x --token abc | tee log"],
        "bash | -c | x --token [redacted:flag] | tee log",
    );
    goes(
        &["python3", "-c", "password = 'a b'; go()"],
        "python3 | -c | password = '[redacted:assignment]'; go()",
    );
    goes(
        &["bash", "-c", "export API_KEY=\"a b\"; ls"],
        "bash | -c | export API_KEY=\"[redacted:assignment]\"; ls",
    );
}

/// Refusals quote a command in a sentence, and a command may quote another one.
#[test]
fn a_secret_goes_out_of_quotes_inside_quotes() {
    for (text, clean) in [
        ("in its text, `mysql -pabcd`: no", "in its text, `mysql -p[redacted:flag]`: no"),
        ("bash -c 'cat x; mysql -pabcd'", "bash -c 'cat x; mysql -p[redacted:flag]'"),
        ("`sh -c \"curl -u me:abcd x\"`", "`sh -c \"curl -u me:[redacted:flag] x\"`"),
        ("'mysql -pabcd", "'mysql -p[redacted:flag]"),
    ] {
        let mut text = text.to_owned();
        assert_eq!(Redactor::default().text(&mut text), 1, "{text}");
        assert_eq!(text, clean);
    }
}

#[test]
fn known_tokens_go_wherever_they_stand() {
    let tokens = [
        "ghp_<36>",
        "gho_<36>",
        "ghs_<36>",
        "github_pat_<22>_<59>",
        "glpat-<20>",
        "glrt-<20>",
        "sk-<48>",
        "sk-proj-<40>",
        "sk-ant-api03-<80>",
        "sk_live_<24>",
        "rk_live_<24>",
        "whsec_<32>",
        "AKIA<U16>",
        "ASIA<U16>",
        "xoxb-<12>-<12>-<24>",
        "xoxp-<40>",
        "xapp-1-<40>",
        "npm_<36>",
        "pypi-AgE<60>",
        "AIza<35>",
        "ya29.<60>",
        "GOCSPX-<28>",
        "hf_<34>",
        "dop_v1_<x64>",
        "SG.<22>.<43>",
        "shpat_<x32>",
        "hvs.<90>",
        "dckr_pat_<27>",
        "rubygems_<x48>",
        "AGE-SECRET-KEY-1<U58>",
        "lin_api_<40>",
        "glsa_<32>_<8>",
        "gsk_<52>",
        "eyJ<20>.eyJ<40>.<43>",
        "eyJ<20>..<16>.<40>.<22>",
        "nvapi-<64>",
        "figd_<40>",
        "sbp_<x40>",
    ];
    for token in tokens {
        goes(&["echo", token], "echo | [redacted:token]");
        goes(&["echo", &format!("a={token},b")], "echo | a=[redacted:token],b");
    }
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\n<70>\n-----END OPENSSH PRIVATE KEY-----";
    goes(&["echo", key], "echo | [redacted:private-key]");
    goes(&["echo", "-----BEGIN RSA PRIVATE KEY-----\n<70>"], "echo | [redacted:private-key]");
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    stays(&["git", "show", "0123456789abcdef0123456789abcdef01234567"]);
    stays(&["git", "checkout", "deadbeef"]);
    stays(&["x", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]);
    stays(&["docker", "pull", "img@sha256:<x64>"]);
    stays(&["x", "123e4567-e89b-12d3-a456-426614174000"]);
    stays(&["cat", "/home/me/secrets/token.txt", "src/password.rs"]);
    stays(&["grep", "-rn", "password", "src"]);
    stays(&["rg", "token|secret|api_key", "--", "lib"]);
    stays(&["mkdir", "-p", "a/b"]);
    stays(&["ssh", "-p", "22", "git@h.example"]);
    stays(&["docker", "run", "-p", "8080:80", "nginx"]);
    stays(&["psql", "-p", "5432", "-U", "me"]);
    stays(&["redis-cli", "-p", "6379"]);
    stays(&["mysql", "-p", "database"]);
    stays(&["cargo", "test", "-p", "core"]);
    stays(&["git", "clone", "git@h.example:me/token-store.git"]);
    stays(&["git", "clone", "ssh://git@h.example/r"]);
    stays(&["curl", "https://me@h.example/"]);
    stays(&["curl", "https://h.example/keys?page=2&sort=key"]);
    stays(&["docker", "login", "--password-stdin"]);
    stays(&["x", "--token-file", "/run/token"]);
    stays(&["x", "--no-password", "name"]);
    stays(&["x", "--max-tokens", "4096"]);
    stays(&["x", "--max-token=4096"]);
    stays(&["x", "--tokenizer", "bpe"]);
    stays(&["x", "--password", "$DB_PASSWORD"]);
    stays(&["env", "TOKEN=${GITHUB_TOKEN}", "x"]);
    stays(&["openssl", "enc", "-pass", "env:PASS"]);
    stays(&["ansible", "--private-key", "~/.ssh/id_ed25519"]);
    stays(&["sort", "--key=2", "file"]);
    stays(&["env", "PWD=/home/me", "OLDPWD=/tmp", "x"]);
    stays(&["env", "KEYBOARD=us", "MONKEY=1", "COMPASS=north", "x"]);
    stays(&["env", "SSH_AUTH_SOCK=/run/agent", "x"]);
    stays(&["env", "npm_config_registry=https://r.example", "x"]);
    stays(&["env", "AWS_PROFILE=dev", "TOKEN_URL=https://t.example", "x"]);
    stays(&["pip", "install", "sk-learn-contrib-helpers-and-tools"]);
    stays(&["echo", "task-0123456789abcdef0123456789"]);
    stays(&["echo", "risk-assessment-2024-final-version-b"]);
    stays(&["echo", "AKIA is a prefix", "ghp_short", "eyJhbGciOi"]);
    stays(&["echo", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"]);
    stays(&["echo", "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"]);
    stays(&["git", "commit", "-m", "policy: say why a token: is refused"]);
    stays(&["git", "log", "--grep=token"]);
    stays(&["cargo", "test", "secret_names_are_found", "--", "--nocapture"]);
    stays(&["ffmpeg", "-pass", "1"]);
    stays(&["tar", "-C", "/tmp", "-xf", "a.tar"]);
    stays(&["sha256sum", "-c", "SHA256SUMS"]);
    stays(&["python3", "-c", "print('token')"]);
    stays(&["npm", "token", "list"]);
    stays(&["x", "--log-level", "debug", "--max-password-length=8"]);
}

#[test]
fn a_listed_value_goes_in_every_usual_encoding() {
    let redactor = Redactor::new(&[b"s3cr\"t/+ value".as_slice()]);
    let spellings = [
        "s3cr\"t/+ value",
        "7333637222742f2b2076616c7565",
        "7333637222742F2B2076616C7565",
        "s3cr%22t%2F%2B%20value",
        "s3cr%22t%2f%2b%20value",
    ];
    for spelling in spellings {
        let (text, count) = clean(&redactor, &["x", &format!("a{spelling}b")]);
        assert_eq!((text.as_str(), count), ("x | a[redacted:listed]b", 1), "{spelling}");
    }
    let mut json = String::from(r#"{"a":"s3cr\"t/+ value"}"#);
    assert_eq!(redactor.text(&mut json), 1);
    assert_eq!(json, r#"{"a":"[redacted:listed]"}"#);
}

/// The groups of three bytes fall differently with what stands before the secret.
#[test]
fn a_listed_value_goes_out_of_the_middle_of_base64() {
    let redactor = Redactor::new(&[b"correct horse".as_slice()]);
    // `correct horse`, `u:correct horse`, `u:correct horse!`, `me:correct horse` in base64.
    for text in [
        "Y29ycmVjdCBob3JzZQ==",
        "dTpjb3JyZWN0IGhvcnNl",
        "dTpjb3JyZWN0IGhvcnNlIQ==",
        "bWU6Y29ycmVjdCBob3JzZQ==",
    ] {
        let mut word = Arg::try_from(text).unwrap();
        assert_eq!(redactor.word(&mut word), 1, "{text}");
        assert!(word.to_string().contains("[redacted:listed]"), "{word}");
    }
    let mut other = Arg::try_from("Y29ycmVjdCBob3VzZQ==").unwrap();
    assert_eq!(redactor.word(&mut other), 0, "`correct house` is another value");
}

#[test]
fn a_variable_is_judged_by_its_name_and_its_value() {
    let redactor = Redactor::default();
    let cases = [
        ("DB_PASSWORD", "abc def", "[redacted:variable]", 1),
        ("DATABASE_URL", "postgres://u:abc@h/d", "postgres://u:[redacted:url]@h/d", 1),
        ("PATH", "/usr/bin:/bin", "/usr/bin:/bin", 0),
        ("HOME", "/home/me", "/home/me", 0),
        ("API_KEY", "", "", 0),
        ("GIT_ASKPASS", "/usr/bin/askpass", "/usr/bin/askpass", 0),
    ];
    for (name, value, expected, count) in cases {
        let mut word = Arg::try_from(value).unwrap();
        assert_eq!(redactor.variable(name, &mut word), count, "{name}");
        assert_eq!(word.to_string(), expected, "{name}");
    }
}

#[test]
fn cleaning_twice_changes_nothing_more() {
    let redactor = Redactor::default();
    let mut words: Vec<Arg> = ["x", "--token", "abc", "A_TOKEN=abc", "https://u:abc@h/"]
        .iter()
        .map(|word| Arg::try_from(*word).unwrap())
        .collect();
    assert_eq!(redactor.argv(&mut words), 3);
    let once = words.clone();
    assert_eq!(redactor.argv(&mut words), 0);
    assert_eq!(words, once);
}

#[test]
fn bytes_that_are_no_text_are_searched_too() {
    let mut words =
        vec![Arg::new(*b"x").unwrap(), Arg::new(*b"\xff\xfe;PASSWORD=abc\xff").unwrap()];
    assert_eq!(Redactor::default().argv(&mut words), 1);
    assert_eq!(words[1].as_bytes(), b"\xff\xfe;PASSWORD=[redacted:assignment]");
}

/// A search that starts over at every place would need minutes for one of these.
#[test]
fn hostile_words_are_read_in_one_pass() {
    let patterns = [
        "token=",
        "token=file:",
        "cookie:",
        "SG.",
        "eyJ.",
        "eyJa1b2c3d4e.",
        "https://a:b@",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY",
        "\"password\": \"",
        "bearer ",
        "xoxe.",
        "a=b;",
    ];
    for pattern in patterns {
        let long = pattern.repeat(100_000 / pattern.len());
        let mut words = vec![Arg::try_from("bash").unwrap(), Arg::try_from("-c").unwrap()];
        words.push(Arg::try_from(long.as_str()).unwrap());
        words.push(Arg::try_from(long.as_str()).unwrap());
        let before = words.clone();
        let count = Redactor::default().argv(&mut words);
        assert_eq!(count == 0, words == before, "{pattern}");
    }
    let mut words = vec![Arg::try_from("-p").unwrap(); 20_000];
    assert_eq!(Redactor::default().argv(&mut words), 0);
}
