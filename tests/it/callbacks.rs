//! Buttons and commands in chats: whose they are is proven, they are done once, and in the right name.

use railwatch_tests::{
    Answer, Daemon, Home, HttpPeer, Response, SPENDER, answers, first_alert, form, now, overspend,
    sign_slack, until,
};
use serde_json::{Value, json};

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const TOKEN: &str = "a-secret-token";

/// A home with a bot in Slack whose buttons are heard, and a person, Ana.
fn home(slack: &HttpPeer) -> Home {
    let home = Home::new("");
    home.write("slack.signing", SECRET);
    home.write("slack.token", "xoxb-1");
    home.write("telegram.secret", TOKEN);
    let api = slack.url("/api");
    home.configure(&format!(
        "{SPENDER}\n[sinks.chat]\nplugin = \"slack_bot\"\ntoken = {{ file = \"slack.token\" }}\nchannel = \"C1\"\napi = {api:?}\n\
         buttons = [\"acknowledge\", \"silence\", \"label\"]\n\n\
         [callbacks.slack]\nsigning_secret = {{ file = \"slack.signing\" }}\nworkspace = \"T1\"\n\n\
         [callbacks.telegram]\nsecret_token = {{ file = \"telegram.secret\" }}\n\n\
         [[people]]\nname = \"ana\"\nslack = \"U1\"\ntelegram = 5\n"
    ));
    home
}

/// Slack's API, and the address that tells people what came of a press.
fn slack() -> HttpPeer {
    let body = json!({ "ok": true, "channel": "C1", "ts": "17.1" }).to_string();
    HttpPeer::start(answers(Vec::new(), Answer { body, ..Answer::status(200) }))
}

/// The words of the first message's buttons.
fn buttons(slack: &HttpPeer) -> Vec<String> {
    until("the message is there", 60, || {
        let message =
            slack.requests().into_iter().find(|request| request.path.ends_with("chat.postMessage"))?;
        let blocks = message.json()["blocks"].as_array().cloned()?;
        let actions = blocks.into_iter().find(|block| block["type"] == "actions")?;
        let values = actions["elements"].as_array()?.iter().filter_map(|button| button["value"].as_str());
        Some(values.map(str::to_owned).collect())
    })
}

/// A press of a button, as Slack posts it.
fn press(slack: &HttpPeer, user: &str, words: &str) -> String {
    let payload = json!({
        "type": "block_actions", "user": { "id": user, "team_id": "T1" }, "team": { "id": "T1" },
        "response_url": slack.url("/told"), "actions": [{ "action_id": "railwatch_0", "value": words }],
    });
    form(&[("payload", &payload.to_string())])
}

fn post(daemon: &Daemon<'_>, body: &str, at_secs: i64, secret: &str) -> Response {
    let (stamp, signature) = (at_secs.to_string(), sign_slack(secret, at_secs, body));
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-slack-request-timestamp", stamp.as_str()),
        ("x-slack-signature", signature.as_str()),
    ];
    daemon.post("/in/callbacks/slack", &headers, body.as_bytes()).unwrap()
}

/// What people were told after a press.
fn told(slack: &HttpPeer) -> Vec<String> {
    let told = slack.requests().into_iter().filter(|request| request.path == "/told");
    told.map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_press_in_slack_takes_the_incident_once_in_the_name_of_the_person() {
    let slack = slack();
    let home = home(&slack);
    let daemon = home.start();
    overspend(&daemon, "spender");
    let words = buttons(&slack).remove(0);
    assert!(words.starts_with("ack a-"), "{words}");
    let body = press(&slack, "U1", &words);
    let at = now().secs();
    assert_eq!(post(&daemon, &body, at, "not-the-secret").status, 401);
    assert_eq!(post(&daemon, &body, at - 400, SECRET).status, 401, "older than five minutes");
    assert_eq!(post(&daemon, &body, at - 200, SECRET).status, 409, "older than this process");
    assert_eq!(first_alert(&home)["state"], "firing");
    assert_eq!(post(&daemon, &body, at, SECRET).status, 200);
    until("it is taken", 30, || (first_alert(&home)["acknowledged_by"] == "ana").then_some(()));
    until("ana is told", 30, || (told(&slack) == ["spender is taken by ana"]).then_some(()));
    // The message shows who took it.
    until("the message is edited", 60, || {
        slack.requests().iter().any(|request| request.path.ends_with("chat.update")).then_some(())
    });
    // The same request again does nothing and says nothing.
    assert_eq!(post(&daemon, &body, at, SECRET).status, 200);
    let stranger = press(&slack, "U2", &words.replace("ack", "resolve"));
    assert_eq!(post(&daemon, &stranger, at, SECRET).status, 200);
    until("the stranger is told", 30, || (told(&slack).len() == 2).then_some(()));
    assert_eq!(told(&slack)[1], "railwatch does not know you: add slack = \"U2\" to [[people]]");
    assert_eq!(first_alert(&home)["state"], "acknowledged");
    let audit = home.run(&["explain", first_alert(&home)["id"].as_str().unwrap()]).stdout;
    assert!(audit.contains("ana"), "{audit}");
    assert!(!home.log().contains(SECRET) && !home.log().contains(TOKEN));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_slash_command_is_answered_where_it_was_given() {
    let slack = slack();
    let home = home(&slack);
    let daemon = home.start();
    overspend(&daemon, "spender");
    let id = first_alert(&home)["id"].as_str().unwrap().to_owned();
    let say = |text: &str| {
        let body = form(&[("command", "/railwatch"), ("text", text), ("user_id", "U1"), ("team_id", "T1")]);
        let answer = post(&daemon, &body, now().secs(), SECRET);
        assert_eq!(answer.status, 200);
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(said["response_type"], "ephemeral");
        said["text"].as_str().unwrap().to_owned()
    };
    assert!(say("help").contains("ack ALERT"));
    assert!(say(&format!("label {id} false-positive")).contains("false positive"));
    assert!(say("freeze spender 1h runs away").contains("no gate is configured"));
    assert!(say(&format!("silence {id} 2h load test")).contains("is silent until"));
    let silences = home.run(&["silence", "list"]).stdout;
    assert!(silences.contains("load test") && silences.contains("ana"), "{silences}");
    assert!(say("ack <!channel>").contains("there is no alert &lt;!channel&gt;"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_press_in_telegram_is_proven_by_its_token_and_done_once() {
    let slack = slack();
    let home = home(&slack);
    let daemon = home.start();
    overspend(&daemon, "spender");
    let id = first_alert(&home)["id"].as_str().unwrap().to_owned();
    let update = |user: i64| {
        json!({ "update_id": 1, "callback_query": { "id": "q1", "from": { "id": user }, "data": format!("ack {id}") } })
            .to_string()
    };
    let post = |body: &str, token: &str| {
        let headers = [("content-type", "application/json"), ("x-telegram-bot-api-secret-token", token)];
        daemon.post("/in/callbacks/telegram", &headers, body.as_bytes()).unwrap()
    };
    assert_eq!(post(&update(5), "guess").status, 401);
    assert_eq!(post("{", TOKEN).status, 400);
    let answer: Value = serde_json::from_str(&post(&update(5), TOKEN).body).unwrap();
    assert_eq!(
        (&answer["method"], &answer["callback_query_id"]),
        (&json!("answerCallbackQuery"), &json!("q1"))
    );
    assert_eq!(answer["text"], "spender is taken by ana");
    let again = post(&update(5), TOKEN);
    assert_eq!((again.status, again.body.as_str()), (200, ""), "Telegram repeats what it is unsure about");
    assert_eq!(daemon.stop(), 0);
}
