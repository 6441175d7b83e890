"""The official download of every benchmark in small: its files, and what each sample is read as."""

from __future__ import annotations

import base64
import io
import pickle
from typing import Any

from PIL import Image

from vrx.metrics.answer import Answer


def picture(red: int = 200, *, form: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, form)
    return file.getvalue()


REFERENCES = [
    {
        "split": "test",
        "image_id": 7,
        "ann_id": 3,
        "sentences": [{"sent_id": 5, "sent": "the cat"}, {"sent_id": 6, "sent": "it"}],
    },
    {"split": "val", "image_id": 7, "ann_id": 3, "sentences": [{"sent_id": 9, "sent": "not asked"}]},
]
INSTANCES = {
    "images": [{"id": 7, "file_name": "COCO_train2014_7.png", "width": 64, "height": 48}],
    "annotations": [{"id": 3, "bbox": [1, 2, 30, 40]}],
}
BOOKS = {
    "b1": {"imageURL": "http://x/a.png", "questions": ["Who?", "What?"], "answers": ["Ada", "Art"], "split": 3},
    "b2": {"imageURL": "http://x/a.png", "questions": ["No?"], "answers": ["No"], "split": 1},
}
TSV = "\t".join(["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "split"]) + "\n"
ENCODED = base64.b64encode(picture()).decode()
PROBLEM = {
    "question": "Warm?",
    "choices": ["yes", "no"],
    "answer": 1,
    "hint": "",
    "image": "image.png",
    "split": "test",
}
TDIUC_QUESTIONS = {"questions": [{"question_id": n, "image_id": 9, "question": "How many?"} for n in (1, 2)]}
TDIUC_ANNOTATIONS = {
    "annotations": [
        {"question_id": 1, "question_type": "counting", "answers": [{"answer": "2"}]},
        {"question_id": 2, "question_type": "absurd", "answers": [{"answer": "doesnotapply"}]},
    ]
}
OFFICIAL: dict[str, tuple[dict[str, Any], list[tuple[str, str, Answer]]]] = {
    "ocrvqa": (
        {"dataset.json": BOOKS, "images/b1.png": picture()},
        [
            ("Please answer the question in one words.\nWho?", "b1.png", Answer("b1_0", "", ("Ada",))),
            ("Please answer the question in one words.\nWhat?", "b1.png", Answer("b1_1", "", ("Art",))),
        ],
    ),
    "flickr30k": (
        {"results_20130124.token": '7.jpg#0\tA "dog .\n7.jpg#1\tIt runs .\n', "images/7.jpg": picture()},
        [("Please describe this image in detail.", "7.jpg", Answer("7", "", ('A "dog .', "It runs .")))],
    ),
    "docvqa": (
        {
            "val_v1.0_withQT.json": {
                "data": [{"questionId": 49, "question": "Date?", "image": "documents/p.png", "answers": ["1/2", "1.2"]}]
            },
            "documents/p.png": picture(),
        },
        [("Please answer the question in one words.\nDate?", "p.png", Answer("49", "", ("1/2", "1.2")))],
    ),
    "refcocog": (
        {
            "refs(umd).p": pickle.dumps(REFERENCES, protocol=2),
            "instances.json": INSTANCES,
            "images/COCO_train2014_7.png": picture(),
        },
        [
            (
                f"Please provide the bounding box coordinate of the region this sentence describes: {sentence}",
                "COCO_train2014_7.png",
                Answer(number, "", (), box=(1, 2, 31, 42), image_size=(64, 48)),
            )
            for number, sentence in (("5", "the cat"), ("6", "it"))
        ],
    ),
    "tdiuc": (
        {
            "Questions/OpenEnded_mscoco_val2014_questions.json": TDIUC_QUESTIONS,
            "Annotations/mscoco_val2014_annotations.json": TDIUC_ANNOTATIONS,
            "images/COCO_val2014_000000000009.jpg": picture(form="JPEG"),
        },
        [
            (
                "How many? Answer the question in one word.",
                "COCO_val2014_000000000009.jpg",
                Answer("1", "", ("2",), question_type="counting"),
            )
        ],
    ),
    "mmbench": (
        {
            "mmbench.tsv": TSV
            + f"3\tWhich?\tIt is.\tred\tblue\tnan\t\tA\tcolour\t{ENCODED}\tdev\n"
            + "1000003\tWhich?\t\tblue\tred\t\t\tB\tcolour\t3\tdev\n"
            + f"4\tWhich?\t\tblue\tred\t\t\tB\tcolour\t{ENCODED}\ttest\n"
        },
        [
            (
                "It is.\nWhich?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.",
                "3.png",
                Answer("3", "", ("A",), ("red", "blue"), "colour", "3"),
            ),
            (
                "Which?\nA. blue\nB. red\nAnswer with the option's letter from the given choices directly.",
                "3.png",
                Answer("1000003", "", ("B",), ("blue", "red"), "colour", "3"),
            ),
        ],
    ),
    "gqa": (
        {
            "testdev_balanced_questions.json": {
                "201": {"question": "Red?", "answer": "no", "imageId": "n1", "types": {"structural": "verify"}}
            },
            "images/n1.jpg": picture(form="JPEG"),
        },
        [
            (
                "Red?\nAnswer the question using a single word or phrase.",
                "n1.jpg",
                Answer("201", "", ("no",), question_type="verify"),
            )
        ],
    ),
    "scienceqa": (
        {
            "problems.json": {"8": PROBLEM, "9": {**PROBLEM, "image": None}, "10": {**PROBLEM, "hint": "Sun."}},
            "pid_splits.json": {"test": ["10", "9", "8"], "val": []},
            "images/test/10/image.png": picture(),
            "images/test/8/image.png": picture(),
        },
        [
            (
                f"{hint}Warm?\nA. yes\nB. no\nAnswer with the option's letter from the given choices directly.",
                "image.png",
                Answer(number, "", ("B",), ("yes", "no")),
            )
            for number, hint in (("10", "Context: Sun.\n"), ("8", ""))
        ],
    ),
    "textvqa": (
        {
            "TextVQA_0.5.1_val.json": {
                "data": [{"question_id": 34602, "question": "what?", "image_id": "ab", "answers": ["x"] * 10}]
            },
            "TextVQA_Rosetta_OCR_v0.2_val.json": {"data": [{"image_id": "ab", "ocr_tokens": ["DA", "k"]}]},
            "images/ab.jpg": picture(form="JPEG"),
        },
        [
            (
                "What?\nReference OCR token: DA, k\nAnswer the question using a single word or phrase.",
                "ab.jpg",
                Answer("34602", "", ("x",) * 10),
            )
        ],
    ),
    "mmlu": (
        {
            "test/abstract_algebra_test.csv": '"One, or two?",1,2,3,4,C\n',
            "dev/abstract_algebra_dev.csv": "no,1,2,3,4,A\n" * 6,
        },
        [
            (
                "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
                + "no\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: A\n\n" * 5
                + "One, or two?\nA. 1\nB. 2\nC. 3\nD. 4\n"
                "Answer with the option's letter from the given choices directly.",
                "",
                Answer("abstract_algebra_0", "", ("C",), ("1", "2", "3", "4"), "abstract_algebra"),
            )
        ],
    ),
    "bbh": (
        {"snarks.json": {"canary": "", "examples": [{"input": "Which?\nOptions:\n(A) x\n(B) y", "target": "(B)"}]}},
        [
            (
                "Which?\nOptions:\n(A) x\n(B) y\nPlease answer this question in a word or phrase.",
                "",
                Answer("snarks_0", "", ("(B)",), ("x", "y"), "snarks"),
            )
        ],
    ),
}
