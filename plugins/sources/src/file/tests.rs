use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use railwatch_plugin::source::{Phase, SourceError};
use tempfile::TempDir;

use super::{FILE, STDIN};
use crate::testing::{Host, build, build_in, codes, ids, payment};

fn run(dir: &TempDir, config: &str, cursor: Option<&str>) -> Host {
    Host::run(build_in(&FILE, config, dir.path()).unwrap(), cursor, 64)
}

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|id| payment(id) + "\n").collect()
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

const FOLLOW: &str = "path = 'f.jsonl'\nfollow = true\npoll_every = '5ms'";

#[tokio::test]
async fn a_file_is_read_to_its_end_in_batches_with_places() {
    let dir = TempDir::new().unwrap();
    // The last line has no line break, one is garbage, and one is too long.
    let text = format!("{}oops\n{}\n{}", lines(0..40), "x".repeat(400), payment(40));
    fs::write(dir.path().join("f.jsonl"), &text).unwrap();
    let config = "path = 'f.jsonl'\nline_len_max = 300\nbatch_max = 10";
    let mut host = run(&dir, config, None);
    let first = host.next_durable().await;
    assert_eq!(first.decoded.payments.len(), 10);
    let all = host.collect(33).await;
    assert_eq!((all.decoded.payments.len(), codes(&all)), (31, vec!["bad_json", "too_large"]));
    host.ended().await.unwrap();
    assert_eq!(host.status.borrow().phase, Phase::Done);
    let resumed = first.cursor.unwrap().0;
    let mut host = run(&dir, config, Some(&resumed));
    assert_eq!(host.next_durable().await.decoded.payments[0].id, "p10");
    host.collect(20).await;
    let mut host = run(&dir, config, Some(&all.cursor.unwrap().0));
    host.ended().await.unwrap();
    assert_eq!(host.submissions.len(), 0, "nothing is left after the last place");
}

#[tokio::test]
async fn the_end_waits_for_the_disk() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("f.jsonl"), payment(1)).unwrap();
    let mut host = run(&dir, "path = 'f.jsonl'", None);
    let submission = host.next().await;
    assert!(
        tokio::time::timeout(Duration::from_millis(50), host.status.wait_for(|s| s.phase == Phase::Done))
            .await
            .is_err()
    );
    submission.ack.send(()).unwrap();
    host.ended().await.unwrap();
}

#[tokio::test]
async fn a_place_in_another_file_of_the_same_name_counts_for_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("f.jsonl");
    fs::write(&path, lines(0..3)).unwrap();
    let mut host = run(&dir, "path = 'f.jsonl'", None);
    let cursor = host.collect(3).await.cursor.unwrap().0;
    host.ended().await.unwrap();
    fs::write(&path, lines(100..110)).unwrap();
    let mut host = run(&dir, "path = 'f.jsonl'", Some(&cursor));
    assert_eq!(ids(&host.next_durable().await)[0], "p100");
    host.ended().await.unwrap();
}

#[tokio::test]
async fn a_followed_file_grows_and_a_partial_line_waits() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("f.jsonl");
    let mut host = run(&dir, FOLLOW, None);
    assert!(host.phase(Phase::Retrying).await.detail.contains("not there yet"));
    let whole = payment(2);
    let (one, two) = whole.split_at(20);
    append(&path, &format!("{}{one}", lines(1..2)));
    let delivery = host.next_durable().await;
    assert_eq!(ids(&delivery), ["p1"]);
    host.phase(Phase::Live).await;
    append(&path, &format!("{two}\n"));
    assert_eq!(ids(&host.next_durable().await), ["p2"]);
    host.stop().await.unwrap();
    let mut host = run(&dir, FOLLOW, Some(&delivery.cursor.unwrap().0));
    assert_eq!(ids(&host.next_durable().await), ["p2"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn rotation_and_truncation_are_noticed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("f.jsonl");
    append(&path, &lines(0..20));
    let mut host = run(&dir, FOLLOW, None);
    host.collect(20).await;
    host.phase(Phase::Live).await;
    // Renamed, with a last line that never gets its line break; a new file takes the name.
    append(&path, &payment(20));
    fs::rename(&path, dir.path().join("f.jsonl.1")).unwrap();
    append(&path, &lines(30..32));
    let all = host.collect(3).await;
    assert_eq!(ids(&all), ["p20", "p30", "p31"]);
    host.phase(Phase::Live).await;
    fs::write(&path, lines(50..51)).unwrap();
    assert_eq!(ids(&host.next_durable().await), ["p50"]);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn csv_rows_are_payments_and_resume_behind_the_header() {
    let dir = TempDir::new().unwrap();
    let text = "\u{feff}id;agent;amount;note;ts\n1;a;1.50;\"semi;colon\nand break\";1800000000\nbad;row\n2;b;2;\"say \"\"x\"\"\";1800000001\n";
    fs::write(dir.path().join("f.csv"), text).unwrap();
    let config = "path = 'f.csv'\ndelimiter = ';'\ncurrency = 'EUR'\nbatch_max = 2\nmap.resource = 'note'";
    let mut host = run(&dir, config, None);
    let first = host.next_durable().await;
    let payment = &first.decoded.payments[0];
    assert_eq!(payment.amount.to_string(), "1.50 EUR");
    assert_eq!(payment.resource.as_deref(), Some("semi;colon\nand break"));
    let rest = host.next_durable().await;
    assert_eq!((ids(&rest), codes(&rest)), (vec!["2"], vec!["bad_csv"]));
    host.ended().await.unwrap();
    let mut host = run(&dir, config, Some(&first.cursor.unwrap().0));
    let rest = host.collect(2).await;
    assert_eq!((ids(&rest), codes(&rest)), (vec!["2"], vec!["bad_csv"]));
    host.ended().await.unwrap();
}

#[tokio::test]
async fn gzip_is_read_to_its_end_and_resumes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("f.jsonl.gz");
    let mut bytes = Vec::new();
    // Two members, as log rotation appends them.
    for part in [lines(0..3000), lines(3000..3001)] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(part.as_bytes()).unwrap();
        bytes.extend(encoder.finish().unwrap());
    }
    fs::write(&path, &bytes).unwrap();
    let config = "path = 'f.jsonl.gz'";
    let mut host = run(&dir, config, None);
    let first = host.next_durable().await;
    let n_first = first.decoded.payments.len();
    host.collect(3001 - n_first).await;
    host.ended().await.unwrap();
    let mut host = run(&dir, config, Some(&first.cursor.unwrap().0));
    let rest = host.collect(3001 - n_first).await;
    assert_eq!(rest.decoded.payments[0].id, format!("p{n_first}"));
    host.ended().await.unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let mut host = run(&dir, config, None);
    loop {
        tokio::select! {
            submission = host.submissions.recv() => if let Some(submission) = submission { submission.ack.send(()).ok(); } else { break },
            status = async { host.status.wait_for(|status| status.phase == Phase::Failed).await.unwrap().clone() } => {
                assert!(status.detail.contains("gzip"), "{}", status.detail);
                break;
            }
        }
    }
    assert!(matches!(host.ended().await, Err(SourceError::Fatal(_))));
}

#[tokio::test]
async fn standard_input_is_lines_too() {
    let cx_text = lines(0..2) + &payment(2);
    // The reader is generic: a byte slice stands for standard input.
    let host = crate::testing::Idle::new();
    let mut submissions = host.submissions;
    let config: super::LinesTable = toml::from_str("").unwrap();
    let (decoder, _) =
        crate::decode::take(&toml::Table::new(), &crate::testing::source_build(Path::new("."))).unwrap();
    let feed = super::Feed::new(&host.cx, decoder.as_ref(), &config);
    let read = super::read_to_end(&host.cx, feed, cx_text.as_bytes());
    let serve = async {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let submission = submissions.recv().await.unwrap();
            assert_eq!(submission.delivery.cursor, None);
            seen.extend(ids(&submission.delivery).into_iter().map(str::to_owned));
            submission.ack.send(()).unwrap();
        }
        seen
    };
    let (read, seen) = tokio::join!(read, serve);
    read.unwrap();
    assert_eq!(seen, ["p0", "p1", "p2"]);
    assert!(build(&STDIN, "format = 'csv'").is_ok());
}

#[tokio::test]
async fn a_missing_file_needs_a_person() {
    let dir = TempDir::new().unwrap();
    let mut host = run(&dir, "path = 'none.jsonl'", None);
    assert!(matches!(host.ended().await, Err(SourceError::Fatal(reason)) if reason.contains("none.jsonl")));
    assert_eq!(host.status.borrow().phase, Phase::Failed);
}

#[test]
fn wrong_configuration_says_what_is_right() {
    for (config, path) in [
        ("path = 'a.gz'\nfollow = true", "follow"),
        ("path = 'a.csv'\ndelimiter = 'é'", "delimiter"),
        ("path = 'a'\nfollow = true\npoll_every = '0s'", "poll_every"),
        ("path = 'a'\nformat = 'xml'", "format"),
    ] {
        assert_eq!(build(&FILE, config).err().unwrap().path, path, "{config}");
    }
}
