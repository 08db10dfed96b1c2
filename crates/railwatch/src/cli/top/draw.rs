//! How `top` looks. Color repeats what words say, so that it can be read without.

use std::fmt::Write as _;

use console::{Style, measure_text_width};
use serde_json::Value;

use super::model::{Model, Typing, View};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines above the list: the headline and the four signals.
const HEAD: usize = 5;

/// The whole screen, each line cleared to its end, as it is written to the terminal.
pub(crate) fn screen(model: &Model, width: usize, height: usize) -> String {
    let mut text = String::from("\x1b[H");
    for (at, line) in lines(model, width, height).iter().enumerate() {
        let end = if at + 1 < height { "\r\n" } else { "" };
        // Writing to a string cannot fail.
        write!(text, "{line}\x1b[K{end}").ok();
    }
    text
}

/// Exactly `height` lines of at most `width` columns.
fn lines(model: &Model, width: usize, height: usize) -> Vec<String> {
    let body_height = height.saturating_sub(HEAD + 1);
    let mut lines = vec![headline(model, width)];
    lines.extend(signals(model, width));
    lines.resize(HEAD, String::new());
    let mut body = match &model.view {
        View::List => list(model, width, body_height),
        View::Agent(agent) => detail(model, agent, width, body_height),
    };
    body.resize(body_height, String::new());
    lines.extend(body);
    lines.push(footer(model, width));
    lines.truncate(height);
    lines
}

fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0.0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Dollars in as few characters as say enough.
fn usd(dollars: f64) -> String {
    match dollars.abs() {
        size if size >= 1e6 => format!("${:.1}M", dollars / 1e6),
        size if size >= 1e4 => format!("${:.1}k", dollars / 1e3),
        size if size >= 100.0 => format!("${dollars:.0}"),
        _ => format!("${dollars:.2}"),
    }
}

/// The beginning of a text that fits, with a mark if there was more. Control characters, which names from outside may
/// have, are replaced.
fn fit(text: &str, width: usize) -> String {
    let mut fitting = String::new();
    for c in text.chars().map(|c| if c.is_control() { '·' } else { c }) {
        fitting.push(c);
        if measure_text_width(&fitting) > width {
            while measure_text_width(&fitting) >= width && fitting.pop().is_some() {}
            fitting.push('…');
            break;
        }
    }
    fitting
}

/// The same, filled up to the width: to the right of the text, or to its left.
fn left(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let space = width.saturating_sub(measure_text_width(&text));
    format!("{text}{}", " ".repeat(space))
}

fn right(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let space = width.saturating_sub(measure_text_width(&text));
    format!("{}{text}", " ".repeat(space))
}

fn tone(state: &str) -> Style {
    match state {
        "firing" | "critical" | "high" | "freeze" => Style::new().red().bold(),
        "raised" | "medium" | "warn" => Style::new().yellow(),
        "learning" => Style::new().dim(),
        _ => Style::new(),
    }
}

fn headline(model: &Model, width: usize) -> String {
    let fleet = &model.fleet;
    let state = match fleet["alerts_untaken"].as_u64().unwrap_or(0) {
        0 => Style::new().green().apply_to("all calm".to_owned()),
        1 => tone("firing").reverse().apply_to(" 1 alert needs you ".to_owned()),
        n => tone("firing").reverse().apply_to(format!(" {n} alerts need you ")),
    };
    let facts = format!(
        "{}/h now, {} in 24 h, {} of {} agents active",
        usd(number(&fleet["usd_per_hour"])),
        usd(number(&fleet["usd_day"])),
        fleet["active"],
        fleet["agents"],
    );
    format!(
        " {} {state}  {}",
        Style::new().bold().apply_to("railwatch"),
        fit(&facts, width.saturating_sub(34))
    )
}

/// The four signals, one line each.
fn signals(model: &Model, width: usize) -> Vec<String> {
    let line = |lane: &Value| {
        let n = |state: &str| lane[state].as_u64().unwrap_or(0);
        let state = if n("firing") > 0 {
            "firing"
        } else if n("raised") > 0 {
            "raised"
        } else {
            "usual"
        };
        let top = &lane["top"][0];
        let (value, usual) = (number(&top["value"]), number(&top["usual"]));
        let signal = text(&lane["signal"]);
        let worst = match signal {
            _ if top.is_null() || state == "usual" => String::new(),
            "velocity" => format!("{}/h, usually {}/h", usd(value), usd(usual)),
            "rail_shift" => {
                format!("{} {:.0}%, usually {:.0}%", text(&top["about"]), 100.0 * value, 100.0 * usual)
            }
            "budget" => format!("empty in {} days", text(&top["about"])),
            _ => format!("{value:.2}"),
        };
        let who = if worst.is_empty() { worst } else { format!("{}: {worst}", fit(text(&top["agent"]), 24)) };
        let counts = format!("{:>6} firing {:>6} raised  ", n("firing"), n("raised"));
        let name = if signal == "rail_shift" { "rails" } else { signal };
        format!(" {} {}{}", left(name, 9), tone(state).apply_to(counts), fit(&who, width.saturating_sub(41)))
    };
    model.fleet["lanes"].as_array().map(|lanes| lanes.iter().map(line).collect()).unwrap_or_default()
}

/// The last `width` values as bars; nothing where nothing was paid.
fn bars(values: &[f64], width: usize) -> String {
    let values = &values[values.len().saturating_sub(width)..];
    let top = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: &f64| match value {
        value if *value <= 0.0 => ' ',
        value => {
            let steps =
                (1..BARS.len()).filter(|step| value / top >= *step as f64 / BARS.len() as f64).count();
            BARS.get(steps).copied().unwrap_or('█')
        }
    };
    values.iter().map(bar).collect()
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().into_iter().flatten().map(number).collect()
}

/// How wide the columns are whose width depends on the screen.
struct Columns {
    agent: usize,
    spark: usize,
}

fn list(model: &Model, width: usize, height: usize) -> Vec<String> {
    let spark = if width >= 110 { 24 } else { 6 };
    // Everything but the name and the spark takes 55 columns.
    let columns = Columns { agent: width.saturating_sub(spark + 55).max(8), spark };
    let head = format!(
        " {} {} {} {} {} {} {} scor sev",
        left("agent", columns.agent),
        left("6 h", spark),
        right("$/h", 8),
        right("usual", 8),
        right("", 6),
        left("rail", 10),
        right("empty", 6),
    );
    let mut lines = vec![Style::new().dim().apply_to(fit(&head, width)).to_string()];
    let rows = height.saturating_sub(1);
    // The agent in hand stays in sight.
    let first = model.place().map_or(0, |at| (at + 1).saturating_sub(rows));
    for agent in model.agents.iter().skip(first).take(rows) {
        let is_in_hand = agent["agent"].as_str() == model.selected.as_deref();
        let mark = if is_in_hand { Style::new().reverse().apply_to(">").to_string() } else { " ".to_owned() };
        lines.push(format!("{mark}{}", row(agent, &columns)));
    }
    if model.agents.is_empty() {
        lines.push(" no agent has paid yet".to_owned());
    }
    lines
}

fn row(agent: &Value, columns: &Columns) -> String {
    let velocity = &agent["velocity"];
    let (value, usual) = (number(&velocity["value"]), number(&velocity["usual"]));
    let speed = text(&velocity["state"]);
    let is_learning = speed == "learning";
    let times = if is_learning || usual <= 0.0 || value <= 0.0 {
        String::new()
    } else {
        format!("{:.1}x", (value / usual).min(999.0))
    };
    let budget = &agent["budget"];
    let empty = match number(&budget["days_until_empty"]) {
        _ if budget.is_null() => "-".to_owned(),
        days if days >= 1000.0 => "lasts".to_owned(),
        days => format!("{days:.1} d"),
    };
    let rail = match text(&agent["rail_name"]) {
        "-" => "-".to_owned(),
        rail => format!("{} {:.0}%", fit(rail, 5), 100.0 * number(&agent["rail"]["value"])),
    };
    let usual = if is_learning { "learning".to_owned() } else { usd(usual) };
    let severity = text(&agent["severity"]);
    format!(
        "{} {} {} {} {} {} {} {:.2} {}",
        left(text(&agent["agent"]), columns.agent),
        Style::new().cyan().apply_to(left(&bars(&numbers(&agent["spark"]), columns.spark), columns.spark)),
        tone(speed).apply_to(right(&usd(value), 8)),
        right(&usual, 8),
        tone(speed).apply_to(right(&times, 6)),
        tone(text(&agent["rail"]["state"])).apply_to(left(&rail, 10)),
        tone(text(&budget["state"])).apply_to(right(&empty, 6)),
        number(&agent["score"]),
        tone(severity).apply_to(short(severity)),
    )
}

fn short(severity: &str) -> &str {
    match severity {
        "critical" => "crit",
        "medium" => "med",
        other => other,
    }
}

fn detail(model: &Model, agent: &str, width: usize, height: usize) -> Vec<String> {
    let detail = &model.detail;
    if detail.is_null() {
        return vec![format!(" {}: reading ...", fit(agent, width.saturating_sub(16)))];
    }
    let totals = &detail["totals"];
    let verdict = text(&detail["verdict"]);
    let points = numbers(&model.series["usd_per_hour"]);
    let chunk = points.len().div_ceil(width.saturating_sub(2).max(1)).max(1);
    let peaks: Vec<f64> = points.chunks(chunk).map(|part| part.iter().copied().fold(0.0, f64::max)).collect();
    let peak = peaks.iter().copied().fold(0.0, f64::max);
    let facts = format!(
        "  score {:.2}  spent {}  {} payments  team {}",
        number(&detail["score"]),
        usd(number(&totals["committed"])),
        totals["purchases"],
        text(&detail["team"])
    );
    let mut lines = vec![
        format!(
            " {} {}{}",
            Style::new().bold().apply_to(fit(agent, 30)),
            tone(verdict).apply_to(verdict),
            fit(&facts, width.saturating_sub(40))
        ),
        Style::new().dim().apply_to(format!(" last six hours, at most {}/h", usd(peak))).to_string(),
        format!(" {}", Style::new().cyan().apply_to(bars(&peaks, width.saturating_sub(2)))),
        String::new(),
    ];
    for (at, alert) in detail["alerts"].as_array().into_iter().flatten().enumerate() {
        lines.extend(alert_lines(alert, width, at == 0));
    }
    lines.push(String::new());
    for signal in detail["signals"].as_array().into_iter().flatten() {
        let verdict = text(&signal["verdict"]);
        let facts = format!(
            "{} {:>12.2} usually {:>12.2} {} {}",
            left(text(&signal["kind"]), 11),
            number(&signal["value"]),
            number(&signal["usual"]),
            text(&signal["unit"]).replace('_', " "),
            signal["about"].as_str().unwrap_or_default()
        );
        lines.push(format!(
            " {} {}",
            tone(verdict).apply_to(left(verdict, 8)),
            fit(&facts, width.saturating_sub(11))
        ));
    }
    lines.truncate(height);
    lines
}

/// The first alert in full, the others in a line each, so that the signals stay in sight.
fn alert_lines(alert: &Value, width: usize, is_first: bool) -> Vec<String> {
    let severity = text(&alert["severity"]);
    let taken = alert["acknowledged_by"].as_str().map(|by| format!("taken by {by}: ")).unwrap_or_default();
    let said = format!("{taken}{}", text(&alert["summary"]));
    let room = width.saturating_sub(11);
    let parts = if is_first { wrapped(&said, room) } else { vec![fit(&said, room)] };
    let mark = |at: usize| left(if at == 0 { severity } else { "" }, 8);
    let line = |(at, part)| format!(" {} {part}", tone(severity).apply_to(mark(at)));
    parts.iter().enumerate().map(line).collect()
}

/// A sentence in lines, broken between words.
fn wrapped(sentence: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let last = lines.last().map_or(0, |line| measure_text_width(line));
        if last > 0 && last + 1 + measure_text_width(word) > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            let space = if line.is_empty() { "" } else { " " };
            *line = fit(&format!("{line}{space}{word}"), width);
        }
    }
    lines
}

fn footer(model: &Model, width: usize) -> String {
    let width = width.saturating_sub(1);
    if let Some(trouble) = &model.trouble {
        return format!(" {}", Style::new().red().apply_to(fit(trouble, width)));
    }
    if !model.said.is_empty() {
        return format!(" {}", Style::new().green().apply_to(fit(&model.said, width)));
    }
    if let Some(typing) = model.typing {
        let line = match typing {
            Typing::Filter => format!("find: {}_   enter keeps it, esc clears it", model.filter),
            Typing::Reason => {
                format!("silent for an hour, because: {}_   enter, esc leaves it", model.reason)
            }
        };
        return format!(" {}", fit(&line, width));
    }
    let keys = match model.view {
        View::List => "enter open  s sort  / find  a take  z silence  r close  q quit",
        View::Agent(_) => "esc back  a take  z silence  r close  q quit",
    };
    let filter = if model.filter.is_empty() { String::new() } else { format!(" like {:?}", model.filter) };
    let facts = format!("{keys} | {} by {}{filter}", model.total, model.sort.as_str());
    format!(" {}", Style::new().dim().apply_to(fit(&facts, width)))
}

#[cfg(test)]
mod tests;
