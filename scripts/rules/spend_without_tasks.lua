return rule {
  id = "spend-without-tasks", severity = "low", hold = "5m",
  about = "More than $25 in an hour, and not one payment names the task that it was for.",
  when = function(p, a) return a:spent("1h") > usd(25) and a:distinct("1h", "task") == 0 end,
  why = function(p, a) return `{a.id} spent {a:spent("1h")} in an hour without naming a task` end,
  tests = {
    { "no task", feed = spend("a1", usd(10), { every = "2m", times = 5 }), expect = { quiet_at("a1", "+8m"), firing("a1", "+10m") } },
    { "with tasks", feed = spend("a1", usd(10), { every = "2m", times = 5, task = "t-1" }), expect = quiet },
  },
}
