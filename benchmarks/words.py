"""The words of the README's tables in Portuguese; figures get its decimal comma."""

from __future__ import annotations

import re

# Longer phrases first: each is replaced wherever it occurs in a cell.
PORTUGUESE = {
    "test accuracy: mean, standard deviation": "acurácia de teste: média, desvio-padrão",
    "95% interval of the mean": "intervalo de 95% da média",
    "standard error of the test set": "erro-padrão do conjunto de teste",
    "images from a folder": "imagens de uma pasta",
    "two-layer CNN": "CNN de duas camadas",
    "MNIST's default run, beside Flower: seconds": (
        "A execução padrão no MNIST, ao lado do Flower: segundos"
    ),
    "rounds, beside Flower: seconds": "rodadas, ao lado do Flower: segundos",
    "rounds, beside PyTorch alone: seconds": "rodadas, ao lado do PyTorch sozinho: segundos",
    "... accuracy": "... acurácia",
    "logistic regression, 1,000 clients": "regressão logística, 1,000 clientes",
    "images a second on one core, beside PyTorch's plain loop": (
        "imagens por segundo em um núcleo, ao lado do laço simples do PyTorch"
    ),
    "bytes of int8 updates a round, beside float32: kB": (
        "bytes de atualizações int8 por rodada, ao lado de float32: kB"
    ),
    "cold start of the Lambda entry, beside a bare FastAPI: ms": (
        "partida a frio da entrada do Lambda, ao lado de um FastAPI vazio: ms"
    ),
    "2,000 updates of 1.7 million weights: the most that one call reads": (
        "2,000 atualizações de 1.7 milhão de pesos: o máximo que uma chamada lê"
    ),
    "equal within": "iguais a menos de",
    "no difference found": "nenhuma diferença encontrada",
    "standard deviation": "desvio-padrão",
    "the other": "o outro",
    "weights": "pesos",
    "one seed": "uma semente",
    "images": "imagens",
    "rounds": "rodadas",
    "points": "pontos",
    "higher": "maior",
    "lower": "menor",
    "command": "comando",
    "seeds": "sementes",
    "model": "modelo",
    "ratio": "razão",
    "data": "dados",
    "ours": "o nosso",
    "runs": "execuções",
    "and": "e",
    "to": "a",
}
PHRASES = re.compile("|".join(rf"(?<![a-z]){re.escape(words)}(?![a-z])" for words in PORTUGUESE))


def translated(cell: str, language: str) -> str:
    """A cell in English or Portuguese; what stands between backticks stays as it is."""
    if language == "en" or cell.startswith("`"):
        return cell
    cell = PHRASES.sub(lambda match: PORTUGUESE[match[0]], cell)
    return re.sub(r"(?<=\d)[.,](?=\d)", lambda m: "," if m[0] == "." else ".", cell)
