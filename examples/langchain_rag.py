"""Answer a question from a folder of text files with LangChain: a retriever, a prompt, and any chat model.

    python examples/langchain_rag.py FOLDER "why does bread rise"

It prints the prompt. To get an answer, append your chat model: `prompt | model`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_harrier import HarrierEmbeddings, HarrierVectorStore

from harrier_core import Chunking


def main(folder: str, question: str) -> None:
    """Index the files, and print the prompt with the passages found."""
    files = sorted(Path(folder).rglob("*.txt"))
    documents = [Document(id=str(file), page_content=file.read_text(encoding="utf-8")) for file in files]
    embeddings = HarrierEmbeddings(os.environ.get("HARRIER_MODEL", "harrier-270m"))
    place = f"pgvector:{folder}/.index?table=files"
    store = HarrierVectorStore(embedding=embeddings, store=place, chunking=Chunking(tokens=256))
    store.add_documents(documents)  # a second run encodes only changed files
    retriever = store.as_retriever(search_kwargs={"k": 4})
    prompt = ChatPromptTemplate.from_template("Answer from these passages only:\n\n{passages}\n\nQuestion: {question}")
    chain = {
        "passages": retriever | (lambda found: "\n\n".join(f"[{each.id}] {each.page_content}" for each in found)),
        "question": RunnablePassthrough(),
    } | prompt
    print(chain.invoke(question).to_string())
    store.index.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
