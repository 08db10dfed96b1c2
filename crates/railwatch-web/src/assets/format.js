// Numbers, money and times as people read them, in the viewer's own zone and language.

const money = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD" });
const round = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat();

/** Dollars from a decimal text or a number; small amounts keep their digits. */
export function usd(value) {
  const number = Number(value);
  if (!Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  if (size !== 0 && size < 0.01) return `$${number.toPrecision(2)}`;
  if (size >= 1e6) return `$${short.format(number)}`;
  return size >= 1000 ? round.format(number) : money.format(number);
}

export const rate = (value) => `${usd(value)}/h`;
export const count = (value) => (value >= 100000 ? short.format(value) : whole.format(value ?? 0));
export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;
export const score = (value) => Number(value ?? 0).toFixed(2);

export function times(value, usual) {
  if (!(usual > 0) || !(value > 0)) return "";
  const ratio = value / usual;
  if (ratio >= 1000) return ">999×";
  return `${ratio >= 10 ? Math.round(ratio) : ratio.toFixed(1)}×`;
}

/** A span in its largest sensible unit. */
export function span(seconds) {
  const size = Math.abs(seconds);
  if (size < 90) return `${Math.round(size)} s`;
  if (size < 5400) return `${Math.round(size / 60)} min`;
  if (size < 172800) return `${Math.round(size / 3600)} h`;
  return `${Math.round(size / 86400)} days`;
}

export const days = (value) => (value >= 1000 ? "years" : span(value * 86400));

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

export const time = (at) => clock.format(new Date(at));
export const hourOf = (at) => hour.format(new Date(at));
export const dateOf = (at) => date.format(new Date(at));
export const dayOf = (at) => day.format(new Date(at));
export const exactly = (at) => exact.format(new Date(at));

/** How long from now, such as `58 min`. */
export const left = (at, now = Date.now()) => span(Math.max(0, (new Date(at).getTime() - now) / 1000));

export function ago(at, now = Date.now()) {
  const seconds = (now - new Date(at).getTime()) / 1000;
  if (!Number.isFinite(seconds) || new Date(at).getTime() <= 0) return "never";
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}

/** Recent times as a clock, older ones with their day. */
export function when(at) {
  return Date.now() - new Date(at).getTime() < 12 * 3600e3 ? hourOf(at) : dayOf(at);
}

const KINDS = {
  velocity: "Spend velocity", rail_shift: "Rail distribution", budget: "Budget burn", score: "Anomaly score",
  review: "Review", drift: "Drift", new_payee: "New payee", new_rail: "New rail", duplicate: "Repeated payments",
  price: "Price", dormant: "Dormant agent",
};
export const kind = (name) => KINDS[name] ?? name;

/** A value in a signal's own unit. */
export function inUnit(value, unit) {
  switch (unit) {
    case "usd_per_hour": return rate(value);
    case "usd_per_day": return `${usd(value)}/day`;
    case "usd": return usd(value);
    case "share": return percent(value);
    case "probability": return score(value);
    case "percent_per_day": return `${value.toFixed(1)}%/day`;
    case "payments": return count(Math.round(value));
    case "days": return days(value);
    default: return String(value);
  }
}

export const agentPath = (agent) => `/agents/${encodeURIComponent(agent)}`;
export const alertPath = (id) => `/alerts/${encodeURIComponent(id)}`;
