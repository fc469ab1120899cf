{#- The node's modules are brought to those of the master before anything uses them, if they differ. Salt's own way
    (autoload_dynamic_modules, off by the bootstrap) asks for each file at every apply, which costs more than all states.
    Here as it renders, because a state would do nothing under test=True. A module that was cut short counts as missing. -#}
{% if not opts.get('autoload_dynamic_modules', True) %}
{% set served = pillar.get('rpiomega_modules') %}
{% set there = salt['file.file_exists'](opts.extension_modules ~ '/modules/rpiomega_modules.py') %}
{% set digest = salt.get('rpiomega_modules.digest') if there else none %}
{% if not served or not digest or digest() != served %}
{% do salt['saltutil.sync_all'](saltenv='base', refresh=False) %}

rpiomega.modules:
  test.nop:
    - name: the modules of this node are those of its master
    - order: first
    - force_reload_modules: True
{% endif %}
{% endif %}
