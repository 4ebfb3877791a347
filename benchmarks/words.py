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
    "the same": "a mesma",
    "rounds, beside Flower: seconds": "rodadas, ao lado do Flower: segundos",
    "rounds, beside PyTorch alone: seconds": "rodadas, ao lado do PyTorch sozinho: segundos",
    "... of them outside the training loop": "... deles fora do laço de treinamento",
    "... ours without the compiled loop": "... o nosso sem o laço compilado",
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
    "a poll while the round waits, median and 99th percentile": (
        "uma consulta enquanto a rodada espera, mediana e percentil 99"
    ),
    "clients (a round)": "clientes (por rodada)",
    "requests a second": "requisições por segundo",
    "memory of two workers": "memória de dois processos",
    "largest model tried": "maior modelo testado",
    "warm request": "requisição a quente",
    "a round of it": "uma rodada dele",
    "peak memory": "pico de memória",
    "cold start": "partida a frio",
    "Lambda's emulator": "emulador do Lambda",
    "OpenWhisk action": "ação do OpenWhisk",
    "final accuracy: mean (least)": "acurácia final: média (menor)",
    "beside no poison, no bound": "ao lado de sem veneno, sem limite",
    "refused of the poisoned, of the honest": "recusadas dos envenenados, dos honestos",
    "clipped by a poisoned round's median": "cortado pela mediana de uma rodada envenenada",
    "worst round": "pior rodada",
    "no poison": "sem veneno",
    "crude poison": "veneno bruto",
    "adaptive poison": "veneno adaptado",
    "no bound": "sem limite",
    "clipped": "cortado",
    "refused": "recusado",
    "standard deviation": "desvio-padrão",
    "the other": "o outro",
    "platform": "plataforma",
    "weights": "pesos",
    "one seed": "uma semente",
    "images": "imagens",
    "rounds": "rodadas",
    "points": "pontos",
    "higher": "maior",
    "lower": "menor",
    "command": "comando",
    "errors": "erros",
    "seeds": "sementes",
    "store": "armazenamento",
    "model": "modelo",
    "ratio": "razão",
    "data": "dados",
    "ours": "o nosso",
    "runs": "execuções",
    "none": "nenhum",
    "run": "execução",
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
