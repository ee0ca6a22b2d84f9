"""Which LM providers there are, and by which road DSPy reaches each.

`PROVIDERS` are the names with something of their own to say. Every other name in `LITELLM` is a
prefix that DSPy hands to litellm; a name in neither table is a misspelling and is refused when
it is configured, not when it is first used.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["LITELLM", "PROVIDERS", "Provider", "Road", "provider_names"]

Road = Literal["native", "cohere", "litellm", "embedded", "host"]
"""native: an engine inside DSPy; cohere: the same, at Cohere's OpenAI-compatible endpoint."""


class Provider(NamedTuple):
    """One provider: the prefix of DSPy's model string, and its endpoint if we choose one."""

    name: str
    road: Road
    prefix: str
    base_url: str | None = None
    needs_key: bool = True
    summary: str = ""


PROVIDERS: dict[str, Provider] = {
    row.name: row
    for row in (
        Provider("openai", "native", "openai", summary="OpenAI chat completions"),
        Provider("anthropic", "native", "anthropic", summary="Anthropic messages"),
        Provider(
            "cohere",
            "cohere",
            "cohere",
            base_url="https://api.cohere.ai/compatibility/v1",
            summary="Cohere, through its OpenAI-compatible endpoint",
        ),
        Provider(
            "local",
            "native",
            "hosted_vllm",
            base_url="http://localhost:11434/v1",
            needs_key=False,
            summary="any OpenAI-compatible server: Ollama (the default address), vLLM, llama.cpp",
        ),
        Provider("gemini", "native", "gemini"),
        Provider("deepseek", "native", "deepseek"),
        Provider("groq", "native", "groq"),
        Provider("moonshot", "native", "moonshot"),
        Provider("openrouter", "native", "openrouter"),
        Provider("xai", "native", "xai"),
        Provider("ollama", "native", "ollama", needs_key=False),
        Provider("ollama_chat", "native", "ollama_chat", needs_key=False),
        Provider("hosted_vllm", "native", "hosted_vllm", needs_key=False),
        Provider(
            "embedded",
            "embedded",
            "embedded",
            needs_key=False,
            summary="the bridge's own deterministic LM: no network, no key; models lexical, echo",
        ),
        Provider(
            "host",
            "host",
            "host",
            needs_key=False,
            summary="the host answers the prompts itself, by host calls under the model's name",
        ),
    )
}

LITELLM: tuple[str, ...] = tuple(
    # One name a line would be a hundred lines that nobody reads.
    """
    a2a a2a_agent ai21 ai21_chat aiml aiohttp_openai amazon_nova anthropic_text apertis
    assemblyai auto_router aws_polly aws_textract azure azure_ai azure_speech azure_text
    baseten bedrock bedrock_mantle black_forest_labs bytez cerebras charity_engine chatgpt
    chutes clarifai cloudflare codestral cognition cohere_chat cometapi compactifai cortecs
    cursor custom custom_openai darkbloom dashscope databricks datarobot deepgram deepinfra
    docker_model_runner dotprompt edenai elevenlabs empower fal_ai featherless_ai
    fireworks_ai friendliai galadriel gdc gigachat github github_copilot gradient_ai
    helicone heroku huggingface humanloop hyperbolic inception infinity jina_ai lambda_ai
    langflow langfuse langgraph lemonade libertai litellm_agent litellm_proxy llamafile
    lm_studio manus maritalk meta meta_llama milvus minimax mistral modelscope mongodb morph
    nadir nano-gpt nebius neosantara nlp_cloud novita nscale nvidia_nim nvidia_riva oci
    oobabooga openai_like ovhcloud parasail perplexity petals pg_vector pinstripes poe
    predibase prism publicai qwen_ai_platform qwencloud ragflow recraft reducto reka
    replicate runwayml s3_vectors sagemaker sagemaker_chat sagemaker_nova sail sambanova sap
    scaleway scx-ai snowflake soniox stability strands_decider synthetic tencent tensormesh
    text-completion-codestral text-completion-inception text-completion-openai together_ai
    topaz transcribe triton typesafe v0 valkey vercel_ai_gateway vertex_ai vertex_ai_beta
    vllm volcengine voyage wandb watsonx watsonx_text xiaomi_mimo xinference zai
    """.split()  # noqa: SIM905
)
"""The other prefixes that litellm knows; a test compares them with the installed litellm."""


def provider_names() -> list[str]:
    """Every provider name there is."""
    return sorted({*PROVIDERS, *LITELLM})
