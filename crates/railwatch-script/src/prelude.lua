-- Library functions with bounds that the machine itself does not have: searching a long text for a long one takes
-- quadratic time inside a single step, and a large result would be built before anybody could stop it.
local TEXT_MAX, PATTERN_MAX, SORT_MAX, ARRAY_MAX = 65536, 256, 10000, 100000
local error, type, select, tostring, unpack = error, type, select, tostring, table.unpack
local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub
local rep, format, split, sort, create = string.rep, string.format, string.split, table.sort, table.create

local function check(text, pattern)
  if type(text) == "string" and #text > TEXT_MAX then error(`the text is longer than {TEXT_MAX} bytes`, 3) end
  if type(pattern) == "string" and #pattern > PATTERN_MAX then error(`the pattern is longer than {PATTERN_MAX} bytes`, 3) end
end

-- Addresses differ from run to run, so that no text may contain one.
local function show(value)
  local kind = type(value)
  if kind == "table" or kind == "function" or kind == "thread" then return kind end
  return tostring(value)
end

local function shown(value)
  local kind = type(value)
  if kind == "number" or kind == "string" then return value end
  return show(value)
end

local library = {}
library.tostring = show
library.string = {
  byte = string.byte, char = string.char, len = string.len, lower = string.lower, reverse = string.reverse,
  sub = string.sub, upper = string.upper,
  find = function(text, pattern, ...) check(text, pattern) return find(text, pattern, ...) end,
  match = function(text, pattern, ...) check(text, pattern) return match(text, pattern, ...) end,
  gmatch = function(text, pattern) check(text, pattern) return gmatch(text, pattern) end,
  gsub = function(text, pattern, ...) check(text, pattern) return gsub(text, pattern, ...) end,
  split = function(text, separator) check(text, separator) return split(text, separator) end,
  rep = function(text, times)
    if type(text) == "string" and type(times) == "number" and #text * times > TEXT_MAX then
      error(`the text would be longer than {TEXT_MAX} bytes`, 2)
    end
    return rep(text, times)
  end,
  format = function(pattern, a, ...)
    check(pattern, nil)
    local more = select("#", ...)
    if more == 0 then return format(pattern, shown(a)) end
    if more > 50 then error("more than 50 values to format", 2) end
    local rest = { ... }
    for i = 1, more do rest[i] = shown(rest[i]) end
    return format(pattern, shown(a), unpack(rest, 1, more))
  end,
}
library.table = {
  clear = table.clear, clone = table.clone, concat = table.concat, find = table.find, freeze = table.freeze,
  insert = table.insert, isfrozen = table.isfrozen, pack = table.pack, remove = table.remove, unpack = table.unpack,
  create = function(count, value)
    if type(count) == "number" and count > ARRAY_MAX then error(`more than {ARRAY_MAX} entries`, 2) end
    return create(count, value)
  end,
  -- The comparison is always a function of the script's language: its steps are counted.
  sort = function(list, less)
    if #list > SORT_MAX then error(`more than {SORT_MAX} entries to sort`, 2) end
    return sort(list, less or function(a, b) return a < b end)
  end,
}
library.math = {
  abs = math.abs, ceil = math.ceil, clamp = math.clamp, exp = math.exp, floor = math.floor, fmod = math.fmod,
  huge = math.huge, log = math.log, log10 = math.log10, max = math.max, min = math.min, modf = math.modf, pi = math.pi,
  pow = math.pow, round = math.round, sign = math.sign, sqrt = math.sqrt, tanh = math.tanh,
}

-- Feeds and expectations of tests are plain tables that the test runner reads.
local function feed(kind)
  return function(agent, amount, options)
    return { feed = kind, agent = agent, amount = amount, options = options or {} }
  end
end
library.spend, library.declined, library.refund = feed "settle", feed "declined", feed "refund"
library.firing = function(agent, at) return { expect = "firing", agent = agent, at = at } end
library.resolved = function(agent, at) return { expect = "resolved", agent = agent, at = at } end
library.quiet_at = function(agent, at) return { expect = "quiet", agent = agent, at = at } end
library.quiet = table.freeze { expect = "quiet" }
library.filtered = table.freeze { expect = "filtered" }
library.rejected = table.freeze { expect = "rejected" }
for _, key in { "string", "table", "math" } do table.freeze(library[key]) end
return library
