"""What the papers' released code makes of the rows in tests/rows; hashes of its output, not of ours.

Prompts, candidates, token ids, demonstrations: large_models of princeton-nlp/MeZO at 552cb1b; WinoGrande and the other
templates of sst2, copa, rte and boolq: ZO-Bench/ZO-LLM at bf210fa; template=promptsource: stan-anony/MeZO-GV at 70a2551.
k-shot draws, masked sequences and label words: medium_models of MeZO, with the STS-B prompt of princeton-nlp/LM-BFF at
c282f52. All of it read the bundled tokenizer with `<s>` in front. New rows or a new tokenizer need new hashes from it.
"""

import hashlib
import json
from pathlib import Path

import pytest

from zobench import registry
from zobench.baselines import icl
from zobench.problems.text import Encoder
from zobench.spec import Setting

ROWS = Path(__file__).parent / "rows"
SHOTS = 4
# task, its template, rows, texts, token ids in at most 64, contexts of SHOTS demonstrations. MeZO-GV's demonstrations have
# the list of answers in brackets and quotation marks, where MeZO's have the first answer, as ours do: no hash.
CAUSAL = [
    ("sst2", "prompt", 36, "8605b5df3c26", "f352c54a946a", "a85069eefd67"),
    ("sst2", "empty", 36, "0fbfd80c9782", "44303860a7df", "989216cb8e8b"),
    ("rte", "prompt", 36, "7fb60a4e6f0e", "456f42316472", "060d69e084bf"),
    ("rte", "empty", 36, "77743a48d166", "9ed09529c70d", "10b621f704a7"),
    ("cb", None, 36, "88f257e71f5f", "2cd6bb40f4eb", "ea0fc40922a9"),
    ("boolq", "v2", 36, "6dec0cf372bc", "80cdb12565d3", "7da308fb5155"),
    ("boolq", "v0", 36, "637030425dcd", "e74fad2240d3", "e047d824e664"),
    ("wsc", None, 36, "0da783d9a6de", "1b8bdb647dd3", "77b8a355d547"),
    ("wic", None, 36, "4ced1ed49ee5", "d6f4659d6af7", "ccf22dca09dd"),
    ("multirc", None, 48, "8db4e3f5ad7e", "ad4cf06db26d", "875636847cac"),
    ("copa", "prompt", 36, "d3d440054f66", "930319e6d319", "91b182340ff4"),
    ("copa", "empty", 36, "891d7a2adbe2", "d6a0f6da73a6", "f4023e992d2c"),
    ("record", "gpt3", 36, "892ee411117d", "6e1d06539c9b", "b4031caef179"),
    ("record", "promptsource", 36, "31b379435e10", "cec1a91bb083", None),
    ("squad", None, 36, "4add6b7a92c3", "89e3cd285225", "a32fe4b6a0ab"),
    ("drop", None, 36, "2e906794d4e3", "c8a9033ad934", "a6c93494c905"),
    ("winogrande", None, 36, "b32b2fc5c9ae", "9f354961691a", "f223a06f3d24"),
]
# task, rows, token ids with the mask's place and the right label word (STS-B: the score), rows drawn for the five splits
MASKED = [
    ("kshot_sst2", 36, "b91493fd1932", "6cc5c7867786"),
    ("kshot_sst5", 75, "ccade54337b2", "5bb72cb4e292"),
    ("kshot_snli", 60, "1293fe5d4ff2", "730775c00db9"),
    ("kshot_mnli", 60, "249cb5334899", "3410779f18b8"),
    ("kshot_rte", 40, "9448ea120f92", "d16b63740e56"),
    ("kshot_trec", 92, "7562d9d20c47", "7be110b7e5e0"),
    ("glue_sst2", 36, "b91493fd1932", None),
    ("glue_mnli", 60, "249cb5334899", None),
    ("glue_rte", 40, "9448ea120f92", None),
    ("glue_qnli", 36, "ca0aa330713b", None),
    ("glue_cola", 36, "a97c29c741ba", None),
    ("glue_mrpc", 36, "101c1089a9ad", None),
    ("glue_qqp", 36, "76204e9585fb", None),
    ("glue_stsb", 36, "31749651dad9", None),
]
SPLITS = (13, 21, 42, 87, 100)


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def build(name, model, **options):
    entry = registry.find("task", name)
    return registry.load(entry).build(Setting(model=model, data_dir=ROWS), **registry.resolve(entry, options))


def rows(problem):
    source = problem.source()
    return [row for split in ("train", "validation") for row in source.rows(split)]


def stripped(texts):
    return [text.strip(" ") for text in texts]


@pytest.mark.parametrize("name, template, count, texts, ids, contexts", CAUSAL)
def test_a_causal_prompt_is_that_of_the_released_code(name, template, count, texts, ids, contexts):
    problem = build(name, "random:opt-nano", **({} if template is None else dict(template=template)))
    encoder = Encoder(problem.tokenizer, 0, 64)
    found, encoded = [], []
    for row in rows(problem):
        prompt, second, *rest = problem.example(row)
        if problem.info["kind"] == "generation":
            full, right, calibrated = [f"{prompt} {second[0]}\n"], list(second), ""
        else:
            full, (gold, calibration) = [prompt + candidate for candidate in second], rest
            right = gold if isinstance(gold, int) else gold[0]
            calibrated = stripped(calibration + candidate for candidate in second)
        found.append([prompt.strip(" "), stripped(full), right, calibrated])
        sequences = [encoder.option(prompt, text) for text in full]
        encoded.append([[s.ids for s in sequences], [s.option for s in sequences]])
    assert len(found) == count
    assert (digest(found), digest(encoded)) == (texts, ids)
    if contexts:
        source = problem.source()
        total, evaluated = len(source.rows("train")), len(source.rows("validation"))
        shown = problem.demonstrations(source, range(total))
        drawn = icl.draw(evaluated, total, SHOTS).tolist()
        before = [icl.context([shown[i] for i in chosen]) for chosen in drawn]
        assert all(text.endswith("\n\n") for text in before)
        assert digest([text[:-2] for text in before]) == contexts


@pytest.mark.parametrize("name, count, ids, draws", MASKED)
def test_a_masked_prompt_and_its_draw_are_those_of_the_released_code(name, count, ids, draws):
    problem = build(name, "random:roberta-nano", **(dict(k=4) if draws else {}))
    words, found = problem.words.tolist(), []
    for row in rows(problem):
        sentences, gold = problem.example(row)
        sequence, place = problem.template.ids(sentences)
        found.append([sequence, place, gold if problem.top else words[gold]])
    assert len(found) == count and digest(found) == ids
    if draws:
        drawn = []
        for split in SPLITS:
            problem.sampling.split = split
            problem._read()
            drawn.append([part.tolist() for part in (problem.drawn.train, problem.drawn.dev, problem.drawn.test)])
        assert digest(drawn) == draws
