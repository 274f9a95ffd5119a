"""Every value of what calostream wrote against what h5py reads in the source, by each of the readers that people use.

Called with the case, the run folder and the source files. A column is one of
  number   (values)                   one number, text, name or truth value for each event
  image    (values of all cells)      hits or tensors, made dense here
  list     (lengths, values)          a list for each event
  records  (lengths, {member: values})
Floats are compared by their bits.
"""

import glob
import sys

import awkward as ak
import duckdb
import h5py
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

case, run, *sources = sys.argv[1:]


# What is in the source.


def whole(path, at=...):
    return np.concatenate([h5py.File(f)[path][at] for f in sources])


def lists(path):
    # h5py 3.16 forgets the byte order of what is in lists: the bytes are those of the file, the type says otherwise.
    of = h5py.check_vlen_dtype(h5py.File(sources[0])[path].dtype)
    rows = [row.view(of).astype(of.newbyteorder("=")) for f in sources for row in h5py.File(f)[path][:]]
    return "list", np.array([len(r) for r in rows]), np.concatenate(rows)


def lcd():
    target = whole("target")
    return {
        "ecal": ("image", whole("ECAL").astype("f4")),
        "hcal": ("image", whole("HCAL").astype("f4")),
        "energy": ("number", target[:, 1]),
        "pdg": ("number", target[:, 0].astype("i4")),
    }


def generated():
    return {"ecal": ("image", whole("ECAL")), "energy": ("number", whole("energy"))}


def table():
    with h5py.File(sources[0]) as f:
        return {name: ("number", f[name][:]) for name in f}


def packets():
    records = whole("packets")
    return {name: ("number", records[name]) for name in records.dtype.names}


def ftag():
    jets, tracks = whole("jets"), whole("tracks")
    want = {name: ("number", jets[name]) for name in jets.dtype.names}
    names = {0: "light", 4: "c", 5: "b", 15: "tau"}
    want["flavour"] = ("number", np.array([names.get(n) for n in jets["HadronConeExclTruthLabelID"]], object))
    real = tracks["valid"]
    want["tracks"] = ("records", real.sum(1), {name: tracks[name][real] for name in tracks.dtype.names})
    return want


def variable():
    text = [t for f in sources for t in h5py.File(f)["text"].asstr()[:]]
    return {
        "numbers": lists("numbers"),
        "samples": lists("samples"),
        "text": ("number", np.array(text, object)),
        "good": ("number", whole("good")),
        "kind": ("number", np.array(["even", "odd"], object)[whole("kind")]),
    }


def copied():
    return {"numbers": lists("named_vl")}


# What each reader finds in a file: functions from a column to one of the forms above.


def dense(lengths, cell, value, cells):
    image = np.zeros((len(lengths), cells), value.dtype)
    event = np.repeat(np.arange(len(lengths)), lengths)
    assert (np.diff(event * cells + cell.astype(int)) > 0).all(), "cells ascend, each at most once"
    image[event, cell] = value
    assert np.count_nonzero(bits(value)) == len(value), "a hit of +0"
    return image


class Pyarrow:
    def __init__(self, table):
        self.table = table

    def columns(self):
        return self.table.column_names

    def get(self, name, form, cells):
        column = self.table[name].combine_chunks()
        column = column.storage if isinstance(column, pa.ExtensionArray) else column
        if form == "number":
            column = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            return column.to_numpy(zero_copy_only=False)
        if pa.types.is_fixed_size_list(column.type):
            return column.flatten().to_numpy().reshape(-1, cells)
        lengths, items = np.diff(column.offsets.to_numpy()), column.flatten()
        if form == "image":
            return dense(lengths, items.field("cell").to_numpy(), items.field(1).to_numpy(), cells)
        if form == "list":
            return lengths, items.to_numpy()
        return lengths, {f.name: items.field(f.name).to_numpy(zero_copy_only=False) for f in items.type}


class Awkward:
    def __init__(self, events):
        self.events = events

    def columns(self):
        return self.events.fields

    def get(self, name, form, cells):
        column = self.events[name]
        if form == "number":
            return np.array(ak.to_list(column), object) if has_text(column) else ak.to_numpy(column)
        lengths, items = ak.to_numpy(ak.num(column)), ak.flatten(column)
        if form == "image":
            value, = (f for f in items.fields if f != "cell")
            return dense(lengths, ak.to_numpy(items.cell), ak.to_numpy(items[value]), cells)
        if form == "list":
            return lengths, ak.to_numpy(items)
        return lengths, {f: ak.to_numpy(items[f]) for f in items.fields}


def has_text(column):
    return "string" in str(ak.type(column))


class Polars:
    def __init__(self, frame):
        self.frame = frame

    def columns(self):
        return self.frame.columns

    def get(self, name, form, cells):
        column = self.frame[name]
        if form == "number":
            return column.cast(pl.String).to_numpy() if column.dtype in (pl.Categorical, pl.Enum) else column.to_numpy()
        if not isinstance(column.dtype, pl.List):
            column = column.ext.storage() if isinstance(column.dtype, pl.BaseExtension) else column
            return column.to_numpy().reshape(-1, cells)
        lengths = column.list.len().to_numpy().astype(int)
        items = column.filter(column.list.len() > 0).explode()
        if form == "list":
            return lengths, items.to_numpy()
        items = items.struct.unnest()
        if form == "image":
            return dense(lengths, items["cell"].to_numpy(), items.to_series(1).to_numpy(), cells)
        return lengths, {f: items[f].to_numpy() for f in items.columns}


class Duckdb:
    def __init__(self, relation):
        self.relation = relation

    def columns(self):
        return self.relation.columns

    def ask(self, query):
        found = self.relation.query("events", query).fetchnumpy()
        return {k: v.filled() if isinstance(v, np.ma.MaskedArray) and not v.mask.any() else v for k, v in found.items()}

    def get(self, name, form, cells):
        if form == "number":
            values = self.ask(f'select "{name}" v from events')["v"]
            values = np.asarray(values.astype(str) if hasattr(values, "categories") else values)
            return np.where(np.ma.getmaskarray(values), None, values) if values.dtype == object else values
        of = str(self.relation.select(f'"{name}"').types[0])
        if form == "image" and not of.startswith("STRUCT"):
            return np.stack(self.ask(f'select "{name}" v from events')["v"])
        lengths = self.ask(f'select len("{name}") n from events')["n"].astype(int)
        items = self.ask(f'select unnest("{name}", recursive := true) from events')
        if form == "list":
            values, = items.values()
            return lengths, values
        if form == "image":
            value, = (f for f in items if f != "cell")
            return dense(lengths, items["cell"], items[value], cells)
        return lengths, items


def readers(parts):
    """Every reader of the parts of a step, as one table."""
    if parts[0].endswith(".parquet"):
        table = pa.concat_tables([pq.read_table(part) for part in parts])
        yield "pyarrow", Pyarrow(table)
        yield "polars", Polars(pl.read_parquet(parts))
        yield "duckdb", Duckdb(duckdb.read_parquet(parts))
        # awkward opens no file with tensors in it.
        if not tensors(table.schema):
            yield "awkward", Awkward(ak.from_parquet(parts))
    else:
        table = pa.concat_tables([pa.ipc.open_file(part).read_all() for part in parts])
        yield "pyarrow", Pyarrow(table)
        yield "polars", Polars(pl.concat([pl.read_ipc(part) for part in parts]))
        yield "duckdb", Duckdb(duckdb.from_arrow(table))
        if not tensors(table.schema):
            yield "awkward", Awkward(ak.from_arrow(table))


def tensors(schema):
    return any(isinstance(f.type, pa.BaseExtensionType) or pa.types.is_fixed_size_list(f.type) for f in schema)


# Comparison.


def bits(values):
    values = np.ascontiguousarray(values)
    return values.view(f"u{values.dtype.itemsize}") if values.dtype.kind == "f" else values


def same(found, want):
    found, want = np.asarray(found), np.asarray(want)
    if want.dtype == object:
        return found.tolist() == want.tolist()
    want = want.astype(want.dtype.newbyteorder("="))
    return found.dtype == want.dtype and np.array_equal(bits(found), bits(want))


def compare(reader, name, want):
    form = want[0]
    cells = int(np.prod(want[1].shape[1:])) if form == "image" else 0
    found = reader.get(name, form, cells)
    if form in ("number", "image"):
        return same(found, want[1].reshape(-1, cells) if cells else want[1]), want[1].size
    if not same(np.asarray(found[0]).astype(int), want[1].astype(int)):
        return False, 0
    if form == "list":
        return same(found[1], want[2]), len(want[2])
    members = want[2]
    return set(found[1]) == set(members) and all(same(found[1][m], v) for m, v in members.items()), sum(map(len, members.values()))


want = globals()[case]()
checked, values = 0, 0
for path in sorted(glob.glob(f"{run}/*_*")):
    for which, reader in readers(sorted(glob.glob(f"{path}/part-*"))):
        of = {f"{name}{end}" for name, w in want.items() for end in ("", "_dense" if w[0] == "image" else "")}
        there = [name for name in reader.columns() if name in of]
        assert {n.removesuffix("_dense") for n in there} == set(want), (path, which, reader.columns())
        for name in there:
            equal, count = compare(reader, name, want[name.removesuffix("_dense")])
            assert equal, (path, which, name)
            checked, values = checked + 1, values + count
print(case, checked, "columns", values, "values")
