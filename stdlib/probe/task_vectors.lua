-- SPDX-License-Identifier: Apache-2.0
-- The geometry of task vectors: how they lie to each other, what they share, how many directions they use. Goes through
-- the tensors one at a time, so that models may lie in files: memory is a tensor of each model, and its SVDs.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local record = require "probe.record"
  local grid = require "probe.grid"
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local what = "probe.task_vectors"
  local short = record.short

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local floating = require "floating"

  local function loaded(t) return t.planned and t:load() or t end

  -- ---- spectra ----

  local function spectrum(s)
    local values = s:totable()
    local sum, squares, h = 0, 0, 0
    for _, v in ipairs(values) do sum, squares = sum + v, squares + v * v end
    if sum == 0 then return { effective = 0.0, stable = 0.0 } end
    for _, v in ipairs(values) do
      if v > 0 then h = h - v / sum * math.log(v / sum) end
    end
    return { effective = math.exp(h), stable = squares / values[1] ^ 2 }
  end

  -- Leading left singular vectors that leave `error` of the Frobenius norm.
  local function span(m, error)
    local u, s = m:svd()
    local values, left = s:totable(), 0
    for _, v in ipairs(values) do left = left + v * v end
    local most, k = error ^ 2 * left, 0
    if left == 0 then return nil, 0 end
    while k < #values and left > most do
      k = k + 1
      left = left - values[k] ^ 2
    end
    return u[{ {}, { 1, k } }], k
  end

  -- ---- one tensor ----

  local function zeros(k)
    local out = {}
    for i = 1, k do
      out[i] = {}
      for j = 1, k do out[i][j] = 0 end
    end
    return out
  end

  local function counts(k) return { gram = zeros(k), same = zeros(k), both = zeros(k), top = zeros(k), kept = 0,
    agreement = 0, moved = 0, conflict = 0, base = 0, numel = 0 } end

  -- Sums over the entries of a tensor; offsets are in memory.
  local function measure(offsets, base, top)
    local k, c = #offsets, counts(#offsets)
    local signs, positive, negative, masks = {}, 0, 0, {}
    local n = base:numel()
    for i, t in ipairs(offsets) do
      signs[i] = { t:gt(0):to "f32", t:lt(0):to "f32" }
      positive, negative = positive + signs[i][1], negative + signs[i][2]
      masks[i] = t:abs():flatten():top_mask { density = top }:to "f32"
    end
    for i = 1, k do
      for j = i, k do
        local g = offsets[i]:dot(offsets[j])
        local same = signs[i][1]:dot(signs[j][1]) + signs[i][2]:dot(signs[j][2])
        local both = (signs[i][1] + signs[i][2]):dot(signs[j][1] + signs[j][2])
        local shared = masks[i]:dot(masks[j])
        for name, v in pairs { gram = g, same = same, both = both, top = shared } do
          c[name][i][j], c[name][j][i] = v, v
        end
      end
    end
    c.kept = masks[1]:sum()
    local any = positive + negative
    local safe = tensor.where(any:gt(0), any, 1)
    c.agreement, c.moved = ((positive - negative):abs() / safe):sum(), any:gt(0):sum()
    c.conflict = (positive:gt(0):to "f32" * negative:gt(0):to "f32"):sum()
    c.base, c.numel = base:dot(base), n
    return c
  end

  local function add(into, c)
    for name, v in pairs(c) do
      if type(v) == "table" then
        for i, row in ipairs(v) do
          for j, x in ipairs(row) do into[name][i][j] = into[name][i][j] + x end
        end
      else
        into[name] = into[name] + v
      end
    end
  end

  -- What the sums say.
  local function finished(c)
    local k, r = #c.gram, { norms = {}, ratio = {}, cosines = zeros(#c.gram), pair_signs = zeros(#c.gram),
      overlap = zeros(#c.gram) }
    for i = 1, k do
      r.norms[i] = math.sqrt(c.gram[i][i])
      r.ratio[i] = r.norms[i] / math.sqrt(c.base)
    end
    for i = 1, k do
      for j = 1, k do
        local size = r.norms[i] * r.norms[j]
        r.cosines[i][j] = i == j and 1.0 or size > 0 and c.gram[i][j] / size or 0.0
        r.pair_signs[i][j] = c.both[i][j] > 0 and c.same[i][j] / c.both[i][j] or 0.0
        r.overlap[i][j] = c.kept > 0 and c.top[i][j] / c.kept or 0.0
      end
    end
    r.base_norm, r.numel = math.sqrt(c.base), c.numel
    r.sign_agreement = c.moved > 0 and c.agreement / c.moved or 0.0
    r.conflict = c.moved > 0 and c.conflict / c.moved or 0.0
    return r
  end

  -- ---- the report ----

  local new = record.kind("task vectors", {
    text = function(r)
      local out = { ("task vectors of %d models, %d parameters in %d tensors"):format(#r.models, r.whole.numel,
        #r.tensors) }
      local rows = {}
      for i, name in ipairs(r.models) do
        rows[i] = { name, short(r.whole.norms[i]), short(r.whole.ratio[i]), short(r.effective[i]), short(r.stable[i]),
          short(r.alignment[i]) }
      end
      out[2] = record.columns({ "", "norm", "of base", "effective rank", "stable rank", "alignment" }, rows)
      out[3] = "cosines\n" .. grid.text { matrix = r.matrix, rows = r.models, columns = r.models }
      out[4] = ("sign agreement %.4f, entries moved both ways %.4f%s"):format(r.whole.sign_agreement, r.whole.conflict,
        r.interference and (", singular task interference %s"):format(short(r.interference)) or "")
      return table.concat(out, "\n")
    end,
    rows = function(r)
      local head, rows = { "tensor", "model", "norm", "base_norm", "effective_rank", "stable_rank", "alignment",
        "sign_agreement", "conflict", "interference" }, {}
      for _, t in ipairs(r.tensors) do
        for i, name in ipairs(r.models) do
          rows[#rows + 1] = { t.name, name, t.norms[i], t.base_norm, t.effective and t.effective[i],
            t.stable and t.stable[i], t.alignment and t.alignment[i], t.sign_agreement, t.conflict, t.interference }
        end
      end
      for _, row in ipairs(rows) do
        for k = 1, #head do row[k] = row[k] == nil and "" or row[k] end
      end
      return head, rows
    end,
    plot = function(r, o)
      return grid.plot({ matrix = r.matrix, rows = r.models, columns = r.models }, o,
        { title = "cosines of task vectors", lim = { -1, 1 } })
    end,
  })

  local function share(o, name, default)
    local v = o[name] == nil and default or o[name]
    if type(v) ~= "number" or not (v > 0 and v <= 1) then fail("%s is a share above 0, up to 1", name) end
    return v
  end

  local function label(m, k)
    local ok, text = pcall(m.label, m)
    return ok and text or "model " .. k
  end

  local function mean_of(tensors, field, k)
    local out = {}
    for i = 1, k do
      local sum, n = 0, 0
      for _, t in ipairs(tensors) do
        if t[field] then sum, n = sum + t[field][i], n + 1 end
      end
      out[i] = n > 0 and sum / n or 0.0
    end
    return out
  end

  local function report(o)
    if core.kind(o) ~= "table" or core.kind(o.base) ~= "model" or #o == 0 then fail "expected {base = m, a, b, …}" end
    check(what, o, { "base", "merged", "only", "top", "error", "spectra", "names", "journal" }, true)
    expect(what, o, { base = "a model", merged = "a model", names = "a table" })
    local base, k = o.base, #o
    local top, error_share, spectra = share(o, "top", 0.2), share(o, "error", 0.05), o.spectra ~= false
    local names = o.only and base:only(o.only):names() or base:names()
    local sums, tensors, labels = counts(k), {}, {}
    for i, m in ipairs(o) do
      if core.kind(m) ~= "model" then fail("model %d is a %s", i, core.kind(m)) end
      labels[i] = o.names and o.names[i] or label(m, i)
    end
    local used = {}
    for i, text in ipairs(labels) do
      if used[text] then labels[i] = text .. " " .. i end
      used[text] = true
    end
    local draw <close> = progress(what, #names, "tensors")
    local j <close> = journal.open(what, o, {}, draw)

    -- Of one tensor: the sums over its entries, and what they say.
    local function of(name)
      local b = loaded(base:tensor(name))
      local wide = b.dtype == "f64" and "f64" or "f32"
      b = b:to(wide)
      local offsets, mean = {}, nil
      for i, m in ipairs(o) do
        offsets[i] = loaded(m:tensor(name)):to(wide) - b
        mean = mean and mean + offsets[i] or offsets[i]
      end
      if #b.shape == 0 then
        b = b:reshape { 1 }
        for i, t in ipairs(offsets) do offsets[i] = t:reshape { 1 } end
      end
      if b:numel() == 0 then return {} end
      local c = measure(offsets, b, top)
      local t = finished(c)
      t.name = name
      if spectra and #b.shape == 2 then
        local merged = o.merged and loaded(o.merged:tensor(name)):to(wide) - b or mean
        local u, kept = span(merged, error_share)
        t.effective, t.stable, t.alignment, t.rank = {}, {}, {}, kept
        for i, x in ipairs(offsets) do
          local s = spectrum(select(2, x:svd()))
          t.effective[i], t.stable[i] = s.effective, s.stable
          local size = x:norm()
          t.alignment[i] = u and size > 0 and u:t():matmul(x):norm() / size or 0.0
        end
      end
      return { sums = c, report = t }
    end

    local matrices = 0
    for at, name in ipairs(names) do
      if floating[base:tensor(name).dtype] then
        local one = j.once({ name }, function() return of(name) end)
        if one.report then
          add(sums, one.sums)
          tensors[#tensors + 1] = one.report
          matrices = matrices + (one.report.rank and 1 or 0)
        end
      end
      draw(at)
    end
    if #tensors == 0 then fail "there are no floating tensors" end
    local r = { models = labels, tensors = tensors, whole = finished(sums), top = top, error = error_share }
    if spectra and matrices > 0 and k > 1 then
      local list = { tensors = "matrices" }
      list.base = o.only and base:only(o.only) or base
      for i, m in ipairs(o) do list[i] = o.only and m:only(o.only) or m end
      local sti = merge.task_interference(list):load()
      local known, sum = {}, 0
      for _, name in ipairs(sti:names()) do known[name] = sti:tensor(name):sum() end
      for _, t in ipairs(tensors) do
        t.interference = t.effective and known[t.name] or nil
        sum = sum + (t.interference or 0)
      end
      r.interference = sum / matrices
    end
    r.effective, r.stable, r.alignment = mean_of(tensors, "effective", k), mean_of(tensors, "stable", k),
      mean_of(tensors, "alignment", k)
    r.matrix = tensor(r.whole.cosines, { dtype = "f64" })
    return new(r)
  end

  define(what, "probe.task_vectors { base =, a, b, …, merged =, only =, top = 0.2, error = 0.05, spectra = true, "
    .. "names =, journal =} -> record",
    "How do the offsets of models from their base lie to each other? Low cosines and few conflicts promise that they "
    .. "can be added. Models may lie in files; they are read tensor by tensor. The record has tensors, a list by "
    .. "name, and whole:\n"
    .. "  norms, base_norm, ratio (norm over the base's), cosines (matrix: those of the whole)\n"
    .. "  sign_agreement: mean over moved entries of |positive - negative| / moved models: 1 all one way\n"
    .. "  conflict: share of the moved entries that two models moved opposite ways\n"
    .. "  pair_signs: of two models, the share of equal signs among entries that both moved\n"
    .. "  overlap: share of common entries among the `top` largest of each tensor\n"
    .. "and for matrices (means over them as fields of the record):\n"
    .. "  effective: exp of the entropy of the singular values' shares; stable: |x|² / s_1²\n"
    .. "  alignment: |U U' x| / |x|, U the left singular vectors of the merged offset that leave the share `error` "
    .. "of its norm (Marczak et al. 2025, arXiv:2502.04959); merged: a model (default: the mean)\n"
    .. "  interference: merge.task_interference's measure, how far the tasks' leading singular vectors overlap\n"
    .. "  spectra: false leaves the SVDs out; only: names, as in m:only; names: of the models\n"
    .. "  journal: a file that keeps what is done, tensor by tensor; a run that was stopped goes on\n"
    .. "Costs one pass and k + 1 SVDs of each matrix, and as many again for interference. Misleads: cosines of the "
    .. "whole are those of the largest tensors (embeddings): read them by tensor; random offsets of many entries are "
    .. "orthogonal too.",
    "local base = model.new { { \"w\", tensor { {1, 1}, {1, 1} } } }\n"
    .. "local a = model.new { { \"w\", tensor { {2, 1}, {1, 1} } } }\nlocal b = model.new { { \"w\", tensor { {1, 1}, "
    .. "{1, 3} } } }\n"
    .. "local r = probe.task_vectors { base = base, a, b }\nprint(r.whole.norms[2], r.matrix[{1, 2}], "
    .. "r.whole.conflict)\n"
    .. "-- > 2.0\t0.0\t0.0", told(report))
end
