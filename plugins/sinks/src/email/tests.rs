//! Mails as they are written, and a minimal SMTP peer that takes or refuses them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;

use railwatch_model::Occasion;

use super::*;
use crate::testing::{OCCASIONS, build_with, deliver, hostile, notice, sink};

/// What the peer says to `RCPT TO`; it takes everything else.
#[derive(Debug, Clone, Copy)]
enum Recipient {
    Welcome,
    Unknown,
    Busy,
    Silence,
}

#[derive(Debug)]
struct SmtpPeer {
    address: SocketAddr,
    /// Everything that the client said, one conversation.
    said: mpsc::Receiver<String>,
}

impl SmtpPeer {
    fn start(recipient: Recipient) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                drop(sender.send(converse(stream, recipient)));
            }
        });
        Self { address, said }
    }

    fn sink(&self) -> Box<dyn Sink> {
        let port = self.address.port();
        let table = format!(
            "server = \"127.0.0.1\"\nport = {port}\nencryption = \"none\"\nusername = \"u\"\n\
             password = {{ env = \"P\" }}\nfrom = \"railwatch <rw@a.example>\"\nto = [\"dana@b.example\"]\n\
             timeout = \"2s\""
        );
        sink("email", &table, &[("P", "s3cr3t-password")])
    }
}

fn converse(mut stream: TcpStream, recipient: Recipient) -> String {
    let mut said = String::new();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut is_data = false;
    stream.write_all(b"220 peer\r\n").unwrap();
    while let Some(Ok(line)) = lines.next() {
        said.push_str(&line);
        said.push('\n');
        let answer: &[u8] = match line.split([' ', ':']).next().unwrap_or_default() {
            "." => {
                is_data = false;
                b"250 taken\r\n"
            }
            _ if is_data => continue,
            "EHLO" => b"250-peer\r\n250 AUTH PLAIN\r\n",
            "AUTH" => b"235 welcome\r\n",
            "RCPT" => match recipient {
                Recipient::Welcome => b"250 ok\r\n",
                Recipient::Unknown => b"550 no such user s3cr3t-password\r\n",
                Recipient::Busy => b"451 later\r\n",
                Recipient::Silence => continue,
            },
            "DATA" => {
                is_data = true;
                b"354 go on\r\n"
            }
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        if stream.write_all(answer).is_err() {
            break;
        }
    }
    said
}

fn mail(notice: &Notice, earlier: Option<&Receipt>) -> String {
    let table =
        "server = \"127.0.0.1\"\nencryption = \"none\"\nfrom = \"rw@a.example\"\nto = [\"d@b.example\"]";
    let config: EmailConfig = toml::from_str(table).unwrap();
    let email = Email {
        port: 25,
        tls: Tls::None,
        login: None,
        from: mailbox("from", &config.from).unwrap(),
        to: vec![mailbox("to", &config.to[0]).unwrap()],
        server: config.server,
        timeout: config.timeout,
        vault: Vault::of(&build_with(&[], PathBuf::new())),
    };
    let id = email.message_id(&notice.id.0);
    let mail = email.mail(Dispatch { notice, earlier }, &id).unwrap();
    String::from_utf8(mail.formatted()).unwrap()
}

fn header<'a>(mail: &'a str, name: &str) -> Option<&'a str> {
    let head = mail.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn every_occasion_is_a_page() {
    for (occasion, name) in OCCASIONS {
        insta::assert_snapshot!(format!("email_{name}"), html::page(&Message::of(&notice(occasion))));
    }
    let page = html::page(&Message::of(&hostile()));
    assert!(!page.contains("<script") && !page.contains("<m>") && !page.contains("javascript:"));
    insta::assert_snapshot!("email_hostile", page);
}

#[test]
fn one_incident_is_one_thread() {
    let first = mail(&notice(Occasion::Opened), None);
    let id = header(&first, "Message-ID").unwrap();
    assert_eq!(header(&first, "In-Reply-To"), None);
    let mut later = notice(Occasion::Resolved);
    later.id.0 = "inc-7f3a/resolved".into();
    let second = mail(&later, Some(&Receipt { reference: Some(id.into()) }));
    assert_ne!(header(&second, "Message-ID"), Some(id));
    assert_eq!(header(&second, "In-Reply-To"), Some(id));
    assert_eq!(header(&first, "Subject"), header(&second, "Subject"));
    assert!(second.contains(header(&first, "References").unwrap()));
    assert_eq!(header(&mail(&notice(Occasion::Opened), None), "Message-ID"), Some(id));
}

#[test]
fn a_hostile_name_adds_no_header() {
    let forged = Receipt { reference: Some("<a@b>\r\nBcc: x@evil.example".into()) };
    let mail = mail(&hostile(), Some(&forged));
    let head = mail.split("\r\n\r\n").next().unwrap();
    assert_eq!(head.matches("Subject:").count(), 1, "{head}");
    assert!(!head.contains("Bcc"), "{head}");
}

#[test]
fn a_mail_is_handed_over_with_its_login() {
    let peer = SmtpPeer::start(Recipient::Welcome);
    let receipt = deliver(&*peer.sink(), &notice(Occasion::Opened), None).unwrap();
    let said = peer.said.recv().unwrap();
    assert!(said.contains("AUTH PLAIN") && said.contains("RCPT TO:<dana@b.example>"), "{said}");
    assert!(said.contains(&format!("Message-ID: {}", receipt.reference.unwrap())), "{said}");
    assert!(said.contains("multipart/alternative"), "{said}");
}

#[test]
fn the_servers_word_decides_and_the_password_is_never_shown() {
    for (recipient, is_retried, says) in [
        (Recipient::Unknown, false, "no such user •••"),
        (Recipient::Busy, true, "later"),
        (Recipient::Silence, true, "2s"),
    ] {
        let peer = SmtpPeer::start(recipient);
        let error = deliver(&*peer.sink(), &notice(Occasion::Opened), None).unwrap_err();
        assert_eq!(!matches!(error, DeliveryError::Rejected(_)), is_retried, "{error}");
        assert!(error.to_string().contains(says) || is_retried, "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
}

#[test]
fn settings_that_would_leak_or_flood_are_refused_by_key() {
    let base = "server = \"mail.example\"\nfrom = \"rw@a.example\"\nto = [\"d@b.example\"]\n";
    let many = vec!["\"d@b.example\""; 51].join(",");
    for (table, path) in [
        (format!("{base}encryption = \"none\""), "encryption"),
        (format!("{base}username = \"u\""), "password"),
        (base.replace("rw@a.example", "nobody"), "from"),
        (base.replace("\"d@b.example\"", "\"d@b.example\", \"x\\r\\nBcc: y\""), "to[1]"),
        (base.replace("\"d@b.example\"", &many), "to"),
    ] {
        let error = build(&toml::from_str(&table).unwrap(), &build_with(&[], PathBuf::new())).unwrap_err();
        assert_eq!(error.path, path, "{error}");
    }
}
