//! The HTML part of a mail: one column, inline styles, nothing that is fetched, and every text escaped.

use crate::message::{Message, Part};
use crate::text::{fit, html_char};

/// Characters of one text of the page, escapes included.
const TEXT_CHARS_MAX: usize = 2000;

/// The page.
pub(super) fn page(message: &Message) -> String {
    let mut html = String::from(
        "<!doctype html><html><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"></head>\n<body style=\"font:15px/1.45 -apple-system,Segoe UI,sans-serif;\
         margin:0;padding:16px;max-width:640px\">\n",
    );
    html.push_str(&format!(
        "<div style=\"border-left:5px solid #{:06x};padding-left:12px\">\n<h2 style=\"margin:0;font-size:18px\">{} {}\
         </h2>\n<p>{}</p>\n</div>\n<table style=\"border-collapse:collapse\">\n",
        message.color(),
        message.mark(),
        esc(&message.title),
        esc(&message.lead),
    ));
    for field in &message.fields {
        html.push_str(&format!(
            "<tr><th style=\"text-align:left;padding:2px 12px 2px 0\">{}</th><td>{}</td></tr>\n",
            field.name,
            esc(&field.value)
        ));
    }
    html.push_str("</table>\n");
    message.parts.iter().for_each(|part| push_part(part, &mut html));
    if let Some(line) = message.left_out() {
        html.push_str(&format!("<p>{}</p>\n", esc(&line)));
    }
    html.push_str(&format!("<p><b>Next:</b> {}</p>\n", esc(&message.next)));
    if let Some(link) = &message.link {
        html.push_str(&format!("<p><a href=\"{}\">{}</a></p>\n", esc(&link.url), link.label));
    }
    for footer in &message.footers {
        html.push_str(&format!("<p style=\"color:#6e7781;font-size:12px\">{}</p>\n", esc(footer)));
    }
    html.push_str("</body></html>\n");
    html
}

fn push_part(part: &Part, html: &mut String) {
    html.push_str(&format!("<h3 style=\"margin:16px 0 4px;font-size:15px\">{}</h3>\n", esc(&part.title)));
    if !part.lead.is_empty() {
        html.push_str(&format!("<p>{}</p>\n", esc(&part.lead)));
    }
    html.push_str("<ul style=\"margin:0;padding-left:20px\">\n");
    for line in part.details() {
        html.push_str(&format!("<li>{}</li>\n", esc(&line)));
    }
    html.push_str("</ul>\n");
}

fn esc(text: &str) -> String {
    fit(text, TEXT_CHARS_MAX, html_char)
}
